//! `jobs set ID`.

use super::as_changed;
use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has
    id: String,
    #[command(flatten)]
    changes: Changes,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Among the jobs of its user those of higher priority go first (-100 to 100)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::args::priority())]
    priority: Option<i32>,
    /// Let it fail unless it is over in this time from now (90m, 2h), or `none`: no limit of its own
    #[arg(long, value_name = "DURATION", value_parser = crate::args::minutes_or_none)]
    deadline: Option<u32>,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let Changes { priority, deadline } = args.changes;
    let job = client.update(&args.id, priority, deadline).await?;
    as_changed(&job, console)
}
