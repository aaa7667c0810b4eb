//! The command line, noun then verb.
//!
//! - [`args`] is what can be typed; [`commands`] has one file per verb; [`error`] says how they can end.
//! - [`client`] is the only module that speaks gRPC; what it returns are domain types and [`views`], which [`output`]
//!   prints. [`output`] owns stdout.
//! - [`inputs`] reads what a task is made from; [`submission`] brings it to a coordinator; [`follow`] watches the jobs.
//! - [`embedded`] runs a coordinator, and for `run` workers, in this process: with them, one machine needs no other.
//! - [`report`] sets tailored networks beside fine-tuned ones; [`picture`] draws them.
//! - [`ambient`] is where the environment is read.

mod ambient;
mod args;
mod client;
mod commands;
mod embedded;
mod error;
mod follow;
mod inputs;
mod output;
mod picture;
mod quantity;
mod report;
mod submission;
mod views;

use std::process::ExitCode;

use clap::Parser as _;
use nettailor_proto::exit::Exit;

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    // clap ends the process itself for --help (0) and for mistakes (2).
    let args = args::Args::parse();
    ambient::log_to_stderr(args.global.verbose);
    let again = args.again();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let error = error::Error::System {
                action: "start threads",
                source,
            };
            output::report(&error, &again);
            return error.exit().into();
        }
    };
    let exit = match runtime.block_on(commands::run(args)) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            let exit = error.exit();
            if exit != Exit::Ok {
                output::report(&error, &again);
            }
            exit
        }
    };
    // What may still be running in the background are reads of files; nobody waits for them any more.
    runtime.shutdown_background();
    exit.into()
}
