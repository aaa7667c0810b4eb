//! The worker agent: one per node, or share of a node.
//!
//! [`Agent::run`] keeps one stream open to the coordinator and serves it for ever: it says what it offers, is sent
//! assignments, and reports what became of them. Each assignment is an attempt at a stage, run by a trainer process of its
//! own, so that a crash costs the attempt and never the agent.
//!
//! - [`Config`], [`Options`]: settings, in code and on a command line.
//! - `agent`: sessions one after the other, attempts across them, leaving in good order.
//! - `session`: one stream, from Hello to whatever ends it.
//! - `ledger`: what runs and what is owed to the coordinator; all that passes between attempts and sessions.
//! - `attempt`: from an order to its report. `reports`: those that are not acknowledged, on disk. `trainer_process`: the process in the middle of it.
//! - [`cache`]: blobs on disk, shared by all trainers of the node.
//! - `http`: probes. `ambient`: clock, chance, environment.

mod agent;
mod ambient;
mod attempt;
pub mod cache;
mod config;
mod gpus;
mod http;
mod ledger;
mod reports;
mod session;
mod trainer_process;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use nettailor_domain::ids::WorkerId;
use nettailor_proto::exit::Exit;

pub use agent::Agent;
pub use config::{Config, Options};

/// Why an agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A worker without slots or threads does nothing.
    #[error("a worker needs at least one slot and one thread per slot")]
    NoSlots,
    /// The coordinator's URL cannot be used.
    #[error("the coordinator's URL `{url}` cannot be used: expected http://HOST:PORT")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it, beyond its scheme.
        source: Option<tonic::transport::Error>,
    },
    /// Not a host by which trainers could be reached.
    #[error(
        "--advertise `{host}`: expected a host name or address of this node that can be found from here, an IPv6 address in brackets, without a port"
    )]
    Advertise {
        /// As given.
        host: String,
    },
    /// The ledger of samples cannot be kept.
    #[error("--sample-ledger {}: expected a folder that can be made and written", .path.display())]
    Ledger {
        /// As given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no trainer.
    #[error("there is no trainer program at {}; build it, or say where it is with --trainer", .0.display())]
    NoTrainer(PathBuf),
    /// The cache cannot be used.
    #[error("the blob cache cannot be used; choose another folder with --cache, or correct this one")]
    Cache(#[source] cache::Error),
    /// Another agent of this name runs on the same cache.
    #[error("another agent named `{worker}` is running here (it holds {}); choose another --name", .lock.display())]
    NameInUse {
        /// The name.
        worker: WorkerId,
        /// The file by which they know of each other.
        lock: PathBuf,
    },
    /// Probes cannot be answered.
    #[error("cannot answer probes on {address}; choose another --http")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The operating system failed at something that normally works.
    #[error("the operating system refused a basic service")]
    Surroundings(#[source] io::Error),
    /// Another agent opened a session under the same name.
    #[error(
        "another agent named `{worker}` took this one's place at the coordinator; give each its own --name"
    )]
    Replaced {
        /// The name.
        worker: WorkerId,
    },
    /// The coordinator will never accept this agent.
    #[error("the coordinator rejects this agent: {reason}")]
    Rejected {
        /// In the coordinator's words.
        reason: String,
    },
}

impl Error {
    /// The exit code of a program that ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoSlots
            | Self::Url { .. }
            | Self::Advertise { .. }
            | Self::Ledger { .. }
            | Self::NoTrainer(_) => Exit::Usage,
            Self::NameInUse { .. } | Self::Replaced { .. } => Exit::Conflict,
            Self::Http { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Exit::Conflict,
            Self::Rejected { .. } => Exit::Unavailable,
            Self::Cache(_) | Self::Http { .. } | Self::Surroundings(_) => Exit::Failed,
        }
    }
}
