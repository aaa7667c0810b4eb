//! Numbers of an independent implementation (`tests/golden`, see its README) against ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the test's report"
)]

mod blocks;
mod hash_init;
mod reference;
mod resnet18;
