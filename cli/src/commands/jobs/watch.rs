//! `jobs watch ID`: to the end, which decides the exit code.

use std::time::Duration;

use crate::client::Client;
use crate::commands::submit;
use crate::error::Error;
use crate::follow::{self, Show};
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job ids, or beginnings that no other job has
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait no longer than this (90s, 30m, 2h); the job goes on
    #[arg(long, value_name = "DURATION", value_parser = crate::args::duration)]
    timeout: Option<Duration>,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let mut jobs = Vec::new();
    for id in &args.ids {
        jobs.push(client.job(id).await?);
    }
    let (jobs, waited) = submit::wait(client, jobs, console, Show::Progress, args.timeout).await;
    if waited.is_ok() || !console.for_people() {
        match jobs.as_slice() {
            [job] => console.detail(job)?,
            jobs => console.list(jobs, "no jobs")?,
        }
    }
    waited?;
    follow::verdict(&jobs)
}
