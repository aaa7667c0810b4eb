//! `validate FILE`: everything that `submit` would find wrong, without a coordinator.

use std::path::PathBuf;

use clap::ValueHint;

use crate::error::Error;
use crate::output::Console;
use crate::submission;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tasks file
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

pub(crate) async fn run(args: Args, console: &Console) -> Result<(), Error> {
    let checked = submission::check(&args.file, console).await?;
    if let Some(line) = checked.source_line() {
        console.note(line);
    } else if checked.weights().is_none() {
        let arch = checked.arch();
        console.note(format_args!(
            "the file names no weights: submitting it needs a {arch} that was imported"
        ));
    }
    console.list(&checked.summaries(), "no tasks")
}
