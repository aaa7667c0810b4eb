//! A coordinator under load: thousands of workers in one process, and clients that submit, list and watch.
//!
//! Workers speak the real protocol ([`fleet`]): one connection each, Hello, Welcome, Ready, heartbeats, reports that are
//! repeated until they are acknowledged, new sessions after lost ones. They run no trainer: a stage ends when its [`Conduct`]
//! says so, with a plausible result ([`results`]) whose weights are one small blob. [`measures`] are what
//! `nettailor-load` prints, a line of JSON each; `make bench-sched` runs them.
//!
//! [`Conduct`]: fleet::Conduct

pub mod ambient;
pub mod fleet;
pub mod measures;
pub mod results;
pub mod samples;
pub mod site;
