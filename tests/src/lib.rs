//! Scenarios over real processes.
//!
//! [`Cluster`] starts the binaries that were built beside this test (`make test` builds them first) in a temporary
//! folder; [`dataset`] draws a small task that a network learns in seconds; [`backbone`] writes weights that know nothing;
//! [`volume`] is a disk to be filled; [`network`] is a cable to be pulled; [`harm`] meets a gang at a chosen moment;
//! [`ledger`] reads what was trained on; [`script`] directs a trainer that computes nothing; [`chance`] draws faults from a
//! seed; [`ambient`] reads the environment; [`watch`] waits for what a test wants to see by the coordinator's own event
//! stream, so that no test sleeps.

pub mod ambient;
pub mod backbone;
pub mod chance;
pub mod cluster;
pub mod dataset;
pub mod harm;
pub mod ledger;
pub mod network;
pub mod process;
pub mod script;
pub mod volume;
pub mod watch;

pub use cluster::Cluster;
pub use process::Process;
