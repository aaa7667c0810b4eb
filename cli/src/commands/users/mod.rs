//! `users`: who shares the workers.

mod list;
mod set;

use clap::Subcommand;

use super::Connection;
use crate::args::Global;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List users, their shares and what they use
    #[command(visible_alias = "ls")]
    List,
    /// Change a user's share
    Set(set::Args),
}

pub(crate) async fn run(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let client = &connection.client;
    let result = match command {
        Command::List => list::run(client, console).await,
        Command::Set(args) => set::run(args, client, console).await,
    };
    connection.close(result).await
}
