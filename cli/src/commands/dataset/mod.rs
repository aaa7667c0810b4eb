//! `dataset`: the images that a task would learn from.

mod inspect;

use clap::Subcommand;

use crate::error::Error;
use crate::output::Console;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at every image as the trainer would: classes, counts, sizes, broken files, a contact sheet
    Inspect(inspect::Args),
}

pub(crate) async fn run(command: Command, console: &Console) -> Result<(), Error> {
    match command {
        Command::Inspect(args) => inspect::run(args, console).await,
    }
}
