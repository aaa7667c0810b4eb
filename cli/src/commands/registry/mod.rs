//! `registry`: tailored networks.

mod frontier;
mod get;
mod list;
mod report;
mod search;

use clap::Subcommand;

use super::Connection;
use crate::args::Global;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the newest model of every task
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show a model in full
    Get(get::Args),
    /// Show the candidates among which a model was chosen
    Frontier(frontier::Args),
    /// Find models by what they must be
    Search(search::Args),
    /// Set models beside their fine-tuned teachers, and count what is stored
    Report(report::Args),
}

pub(crate) async fn run(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let client = &connection.client;
    let result = match command {
        Command::List(args) => list::run(args, client, console).await,
        Command::Get(args) => get::run(args, client, console).await,
        Command::Frontier(args) => frontier::run(args, client, console).await,
        Command::Search(args) => search::run(args, client, console).await,
        Command::Report(args) => report::run(args, client, console).await,
    };
    connection.close(result).await
}
