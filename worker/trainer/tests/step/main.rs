//! The student's step against its definition, written naively.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the test's report"
)]

mod averages;
#[path = "../common/mod.rs"]
mod common;
mod gangs;
mod options;
mod setting;
mod student;
#[path = "../common/threads.rs"]
mod threads;
