//! `registry frontier TASK[@VERSION]`.

use std::path::PathBuf;

use clap::ValueHint;

use super::get::ModelName;
use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::report;
use crate::views::FrontierView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model; without a version, the task's newest
    #[arg(value_name = "TASK[@VERSION]")]
    model: ModelName,
    /// Write a plot of accuracy over FLOPs to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    svg: Option<PathBuf>,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let model = client.model(&args.model.task, args.model.version).await?;
    if let Some(path) = args.svg {
        report::write_frontier(&model, &path)?;
        console.note(format_args!("picture: {}", path.display()));
    }
    console.detail(&FrontierView::of(&model))
}
