//! `jobs`: what was submitted.

mod cancel;
mod get;
mod list;
mod logs;
mod watch;

use clap::Subcommand;

use super::Connection;
use crate::args::Global;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List jobs, newest first
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show a job with its stages
    Get(get::Args),
    /// Follow a job to its end
    Watch(watch::Args),
    /// Print what the stages of a job logged
    Logs(logs::Args),
    /// End a job; finished stages are kept
    Cancel(cancel::Args),
}

pub(crate) async fn run(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let client = &connection.client;
    let result = match command {
        Command::List(args) => list::run(args, client, console).await,
        Command::Get(args) => get::run(args, client, console).await,
        Command::Watch(args) => watch::run(args, client, console).await,
        Command::Logs(args) => logs::run(args, client, console).await,
        Command::Cancel(args) => cancel::run(args, client, console).await,
    };
    connection.close(result).await
}
