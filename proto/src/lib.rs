//! What crosses a wire.
//!
//! [`v1`] is generated from `proto/nettailor/v1/*.proto`; [`convert`] turns its messages into domain types and back;
//! [`status`] is the one table between our error codes and gRPC's; [`limits`] are the sizes both ends agree on;
//! [`exit`] is what programs end with.
//! Generated types stop at `convert` and at the coordinator's and the clients' edges: nothing else passes them on.

pub mod convert;
pub mod exit;
pub mod limits;
pub mod status;

/// Generated from `nettailor/v1/*.proto`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
    tonic::include_proto!("nettailor.v1");
}
