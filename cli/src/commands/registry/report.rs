//! `registry report [TASK...]`.

use std::path::PathBuf;

use clap::ValueHint;
use nettailor_domain::model::ModelQuery;

use super::get::ModelName;
use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::report;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Models; without any, the newest of every task
    #[arg(value_name = "TASK[@VERSION]")]
    models: Vec<ModelName>,
    /// Write a picture of each network into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    svg_dir: Option<PathBuf>,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let models = if args.models.is_empty() {
        client.search(ModelQuery::default()).await?
    } else {
        let mut models = Vec::new();
        for name in &args.models {
            models.push(client.model(&name.task, name.version).await?);
        }
        models
    };
    if models.is_empty() {
        console.note("no models yet");
    }
    report::print(client, models, None, console, args.svg_dir.as_deref()).await
}
