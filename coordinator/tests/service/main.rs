//! A coordinator in this process, spoken to over gRPC by clients and by a scripted agent.

mod agent;
mod errors;
mod jobs;
mod restart;
mod sessions;
mod site;
