//! `jobs retry ID...`.

use nettailor_domain::stage::StageKind;

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

/// Each becomes a new job with the same settings and inputs; finished stages are not repeated, unless asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of jobs that have ended, or beginnings that no other job has
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Leave out those that did not fail
    #[arg(long)]
    failed_only: bool,
    /// Run this stage and those that follow anew though they are done: teacher, student, candidate(6), select
    #[arg(long, value_name = "STAGE")]
    from_stage: Option<StageKind>,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let jobs = client.retry(args.ids, args.failed_only, args.from_stage).await?;
    console.list(&jobs, "none of these failed")
}
