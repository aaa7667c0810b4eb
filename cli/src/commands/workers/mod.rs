//! `workers`: who trains.

mod cordon;
mod drain;
mod explain;
mod list;
mod uncordon;

use clap::Subcommand;

use super::Connection;
use crate::args::Global;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List workers and what they do
    #[command(visible_alias = "ls")]
    List,
    /// Say why a worker stands where it stands, and what would help
    Explain(explain::Args),
    /// Give a worker no new work; what runs on it goes on
    Cordon(cordon::Args),
    /// Give a worker no new work; what runs on it ends at its next checkpoint and goes on elsewhere
    Drain(drain::Args),
    /// Give a worker work again, also one that was set aside for what broke on it
    Uncordon(uncordon::Args),
}

pub(crate) async fn run(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let client = &connection.client;
    let result = match command {
        Command::List => list::run(client, console).await,
        Command::Explain(args) => explain::run(args, client, console).await,
        Command::Cordon(args) => cordon::run(args, client, console).await,
        Command::Drain(args) => drain::run(args, client, console).await,
        Command::Uncordon(args) => uncordon::run(args, client, console).await,
    };
    connection.close(result).await
}
