//! The scheduler, rule by rule, and under simulated workers that crash, repeat themselves and come back.

mod absence;
mod backfill;
mod explain;
mod gang_placement;
mod gangs;
mod history;
mod jobs;
mod placement;
mod policy;
mod preemption;
mod rank_0;
mod regroup;
mod restore;
mod retries;
mod searching;
mod sessions;
mod sharing;
mod simulation;
mod sources;
mod world;
