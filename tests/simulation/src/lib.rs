//! Deterministic simulation: whole histories of a cluster in virtual time.
//!
//! The coordinator's own engine, scheduler and committer run over a store, streams, workers and users that fail on purpose. A
//! [`Plan`] is made from a seed before it is lived through, everything in its history follows from it, and the promises that
//! NetTailor makes are looked at after every event. A plan that breaks one is made as short as can be and printed as text.
//!
//! - `plan`: what is done from outside. `world`: the queue of events. `shrink`, `suite`: many plans, and short ones.
//! - `coordinator`, `store`, `edge`: the coordinator's process and what it stands on. `link`: streams. `agent`: workers. `user`,
//!   `tasks`: what is asked for.
//! - `promise`: what must hold.

mod agent;
mod chance;
mod coordinator;
mod edge;
mod link;
mod plan;
mod promise;
mod shrink;
mod store;
mod suite;
mod tasks;
mod user;
mod world;

pub use plan::{Act, Plan, Step};
pub use shrink::{describe, promise, shrink};
pub use suite::{Suite, run};
pub use world::{Fired, Outcome, live};

/// Whether all is well; if not, which promise was broken and how.
type Verdict = Result<(), String>;
