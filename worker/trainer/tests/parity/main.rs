//! Numbers of an independent implementation (`tests/golden`, see its README) against ours.
//!
//! [`subjects`] is the one place that knows the files: which backbone, under which names, to which tolerances. [`case`]
//! opens one of them; each of the other modules compares one concern, and fails unless it compared every number that its
//! part of the file holds ([`reference::Ledger`]). Structure, costs, complexity and pruning of the same files are compared
//! in `proto/domain/tests/method`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the test's report"
)]

mod blocks;
mod case;
mod complexity;
mod forward;
mod gradients;
mod hash_init;
mod reference;
mod steps;
mod structure;
mod subjects;
