//! `jobs`: what was submitted.

mod cancel;
mod events;
mod explain;
mod get;
mod list;
mod logs;
mod pause;
mod resume;
mod retry;
mod set;
mod watch;

use std::fmt::Display;

use clap::Subcommand;
use futures::{Stream, TryStreamExt as _};
use serde::Serialize;

use super::Connection;
use crate::args::Global;
use crate::error::Error;
use crate::follow;
use crate::output::Console;
use crate::views::JobView;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List jobs, newest first
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show a job with its stages
    Get(get::Args),
    /// Say why a job stands where it stands, and what would help
    Explain(explain::Args),
    /// Print what happened to a job and its stages, oldest first
    Events(events::Args),
    /// Follow a job to its end
    Watch(watch::Args),
    /// Print what the stages of a job logged
    Logs(logs::Args),
    /// Change a job's priority or deadline
    Set(set::Args),
    /// Let a job ask for nothing for a while; what runs for it alone ends at its next checkpoint
    Pause(pause::Args),
    /// End a pause
    Resume(resume::Args),
    /// Submit what ended jobs asked for once more
    Retry(retry::Args),
    /// End a job; finished stages are kept
    Cancel(cancel::Args),
}

pub(crate) async fn run(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let client = &connection.client;
    let result = match command {
        Command::List(args) => list::run(args, client, console).await,
        Command::Get(args) => get::run(args, client, console).await,
        Command::Explain(args) => explain::run(args, client, console).await,
        Command::Events(args) => events::run(args, client, console).await,
        Command::Watch(args) => watch::run(args, client, console).await,
        Command::Logs(args) => logs::run(args, client, console).await,
        Command::Set(args) => set::run(args, client, console).await,
        Command::Pause(args) => pause::run(args, client, console).await,
        Command::Resume(args) => resume::run(args, client, console).await,
        Command::Retry(args) => retry::run(args, client, console).await,
        Command::Cancel(args) => cancel::run(args, client, console).await,
    };
    connection.close(result).await
}

/// Shows a job that was to be changed. One that has ended is past all changes.
fn as_changed(job: &JobView, console: &Console) -> Result<(), Error> {
    if job.state.is_final() {
        return Err(Error::AlreadyEnded {
            id: job.id.clone(),
            state: job.state.as_str().to_owned(),
        });
    }
    console.detail(job)
}

/// Prints a stream, one line an item, until it ends or somebody has seen enough. The number of lines.
async fn print<T: Serialize + Display>(
    items: impl Stream<Item = Result<T, Error>>,
    console: &Console,
) -> Result<usize, Error> {
    tokio::pin!(items);
    let printed = async {
        let mut lines = 0;
        while let Some(item) = items.try_next().await? {
            console.line(&item, &item)?;
            lines += 1;
        }
        Ok(lines)
    };
    tokio::select! {
        printed = printed => printed,
        () = follow::interrupted() => Err(Error::Detached { jobs: Vec::new() }),
    }
}
