//! The coordinator: gRPC and HTTP at the edge, one driver thread around the scheduler, sled below.
//!
//! [`Coordinator::start`] binds the ports, restores the state and returns a [`Running`], which serves until it is told
//! to stop or something fails.
//!
//! From the edge inwards: `grpc` converts and checks, `handle` makes commands of requests, `driver` lets them change the
//! engine's state, commits what changed to the [`store`], and only then carries out effects and answers. Effects go through
//! `outlet` to `sessions` (agents), `watch` (those who follow a job) and `logs`; the `journal` and `manifests` follow in the
//! artifact store, and `recovery` makes a lost state directory again. `http` answers probes. `ambient` reads the clock and draws
//! ids; nothing else does.

mod ambient;
mod coordinator;
mod driver;
mod grpc;
mod handle;
mod http;
mod journal;
mod logs;
mod manifests;
mod outlet;
mod recovery;
mod sessions;
pub mod store;
mod watch;

pub use coordinator::{Config, Coordinator, Error, Running};
pub use journal::Error as JournalError;
pub use recovery::{Error as RecoveryError, Rebuilt};
