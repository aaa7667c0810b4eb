//! `jobs list`.

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::views::JobState;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only jobs of this task
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Only jobs in this state; may be repeated
    #[arg(long, value_enum, value_name = "STATE", value_delimiter = ',')]
    state: Vec<JobState>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let limit = args.limit as usize;
    let jobs = client.list_jobs(args.task.as_deref(), &args.state, limit).await?;
    console.list(&jobs, "no such jobs")?;
    if jobs.len() == limit && console.for_people() {
        console.note(format_args!("there may be more than {limit}: see --limit"));
    }
    Ok(())
}
