//! `backbone`: the networks that tasks share.

mod import;
mod list;

use clap::Subcommand;

use super::Connection;
use crate::args::Global;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hand a publisher's weights file to the coordinator, for tasks files that name none
    Import(import::Args),
    /// List imported backbones
    #[command(visible_alias = "ls")]
    List,
}

pub(crate) async fn run(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = match command {
        Command::Import(_) => Connection::open_or_create(global).await?,
        Command::List => Connection::open(global).await?,
    };
    let client = &connection.client;
    let result = match command {
        Command::Import(args) => import::run(args, client, console).await,
        Command::List => list::run(client, console).await,
    };
    connection.close(result).await
}
