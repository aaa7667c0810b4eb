//! `workers`: who trains.

mod list;

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
}

pub(crate) async fn run(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let result = match command {
        Command::List => list::run(&connection.client, console).await,
    };
    connection.close(result).await
}
