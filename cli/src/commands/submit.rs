//! `submit FILE`: hand the tasks to the coordinator, and wait for them if asked to.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;

use super::Connection;
use crate::args::Global;
use crate::client::Client;
use crate::error::Error;
use crate::follow::{self, Ended, Show};
use crate::output::Console;
use crate::submission;
use crate::views::JobView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tasks file
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Wait until every job has ended
    #[arg(long, conflicts_with = "follow")]
    wait: bool,
    /// Wait, and show what happens meanwhile
    #[arg(long)]
    follow: bool,
    /// Wait no longer than this (90s, 30m, 2h); the jobs go on
    #[arg(long, value_name = "DURATION", value_parser = crate::args::duration)]
    timeout: Option<Duration>,
}

pub(crate) async fn run(args: Args, global: &Global, console: &Console) -> Result<(), Error> {
    if global.local.is_some() {
        let message = "with --local nobody would train: use `nettailor-cli run FILE`";
        return Err(Error::Usage(message.to_owned()));
    }
    if args.timeout.is_some() && !args.wait && !args.follow {
        return Err(Error::Usage("--timeout needs --wait or --follow".to_owned()));
    }
    // Mistakes are told whether or not a coordinator answers.
    let checked = submission::check(&args.file, console).await?;
    let backbone = checked.weights().map(|weights| weights.artifact);
    let client = Connection::open(global).await?.client;
    let jobs = submission::submit(&client, checked, console).await?;
    if !args.wait && !args.follow {
        return console.list(&jobs, "no jobs");
    }
    for job in &jobs {
        console.note(format_args!("{}: job {}", job.task, job.id));
    }
    let show = if args.follow {
        Show::Progress
    } else {
        Show::Nothing
    };
    let (jobs, waited) = wait(&client, jobs, console, show, args.timeout).await;
    if waited.is_err() && !console.for_people() {
        // A program finds its jobs again by what it reads here.
        console.list(&jobs, "no jobs")?;
    }
    waited?;
    crate::report::conclude(&client, &jobs, backbone, console, None).await
}

/// Follows jobs to their end; the jobs as last seen. Ctrl-C detaches: the jobs go on, and it is said how to come back.
pub(super) async fn wait(
    client: &Client,
    jobs: Vec<JobView>,
    console: &Console,
    show: Show,
    timeout: Option<Duration>,
) -> (Vec<JobView>, Result<(), Error>) {
    let stop = follow::interrupted();
    if show == Show::Progress {
        console.note("following; Ctrl-C stops that, the jobs go on");
    }
    let (jobs, ended) = follow::follow(client, jobs, console, show, timeout, stop).await;
    let waited = ended.and_then(|ended| match ended {
        Ended::Final => Ok(()),
        Ended::Stopped => Err(Error::Detached {
            jobs: follow::open(&jobs),
        }),
    });
    (jobs, waited)
}
