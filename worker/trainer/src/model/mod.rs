//! Networks, built from the domain's description of a backbone and a task's architecture.
//!
//! One mechanism serves all backbones: [`unit`] is a convolution with batch norm ([`depthwise`]: another form of some), [`block`] chains units into universal
//! blocks and makes proxies, [`layer`] merges blocks into a node, [`network`] is the whole. [`variables`] names the tensors,
//! [`latency`] times blocks.
//! [`synchronised`] spreads batch norms over a gang.
//! The forward code is shared by teacher and student, by training and evaluation; what differs is the [`unit::Mode`] and
//! where the autograd graph is cut (see [`crate::step`]).

pub mod block;
mod depthwise;
mod init;
pub mod latency;
pub mod layer;
pub mod network;
pub mod synchronised;
pub mod unit;
pub mod variables;

pub use init::Init;
pub use network::{Forward, Network};
pub use synchronised::Synchronised;
pub use unit::{Mode, Statistics};
pub use variables::{Builder, Origin, Role, Variables};

/// Why a network could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The weights are not this network's.
    #[error("{origin} does not hold this network: {tensors}")]
    Mismatch {
        /// The file.
        origin: String,
        /// The first tensors that do not fit, with both shapes.
        tensors: String,
    },
    /// Nothing leads to the last node.
    #[error("the architecture has no path from the stem to its last node")]
    Disconnected,
    /// The gang is broken.
    #[error(transparent)]
    Gang(#[from] nettailor_collective::Error),
    /// libtorch refused.
    #[error("a tensor operation failed: {0}")]
    Torch(#[from] tch::TchError),
}
