//! `jobs pause ID`.

use super::as_changed;
use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has
    id: String,
    /// Kept with the job
    #[arg(long, value_name = "TEXT", default_value = "paused from the command line")]
    reason: String,
    /// Go on by itself after this (90m, 2h) [default: 7 days]
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::args::minutes)]
    minutes: Option<u32>,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let job = client.pause(&args.id, &args.reason, args.minutes).await?;
    as_changed(&job, console)
}
