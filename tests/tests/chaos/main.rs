//! Chaos over real processes: coordinator, agents and CLI as they are, a scripted trainer in place of the real one. Faults are
//! drawn from a seed, and every scenario asserts that its fault happened and that the end is that of an undisturbed run.

mod broken;
mod cut;
mod end;
mod lost;
mod race;
mod scene;
mod stopped;
mod storm;
