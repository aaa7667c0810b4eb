//! A coordinator in this process, spoken to over gRPC by clients and by a scripted agent.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod agent;
mod errors;
mod gangs;
mod jobs;
mod journal;
mod policy;
mod restart;
mod sessions;
mod shown;
mod site;
