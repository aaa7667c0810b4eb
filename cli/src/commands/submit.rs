//! `submit FILE`: hand the tasks to the coordinator, and wait for them if asked to.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use nettailor_domain::ids::{InvalidId, UserName};

use super::Connection;
use crate::args::Global;
use crate::client::{Client, Terms};
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
    /// Who pays: slots are shared out among users
    #[arg(long, value_name = "NAME", env = "NETTAILOR_USER", default_value_t, value_parser = user)]
    user: UserName,
    /// Instead of each task's own; among the jobs of one user those of higher priority go first (-100 to 100)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::args::priority())]
    priority: Option<i32>,
    /// Let a job fail unless it is over in this time (90m, 2h), instead of each task's own [default: 30 days]
    #[arg(long, value_name = "DURATION", value_parser = crate::args::minutes)]
    deadline: Option<u32>,
}

/// A variable that is set to nothing is not set.
fn user(text: &str) -> Result<UserName, InvalidId> {
    match text {
        "" => Ok(UserName::default()),
        name => name.parse(),
    }
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
    let terms = Terms {
        user: args.user,
        priority: args.priority,
        deadline: args.deadline,
    };
    let jobs = submission::submit(&client, checked, &terms, console).await?;
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
