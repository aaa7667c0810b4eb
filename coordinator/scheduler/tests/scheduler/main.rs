//! The scheduler, rule by rule, and under simulated workers that crash, repeat themselves and come back.

mod history;
mod jobs;
mod placement;
mod restore;
mod retries;
mod sessions;
mod sharing;
mod simulation;
mod tasks;
mod world;
