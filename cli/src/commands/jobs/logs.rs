//! `jobs logs ID`.

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has
    id: String,
    /// Only this stage: teacher, student, candidate(6), select
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Go on until the job has ended
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let lines = client.logs(&args.id, args.stage.as_deref(), args.follow).await?;
    if super::print(lines, console).await? == 0 {
        console.note("no lines are kept here: nothing was logged, or the state was made again from its journal, which has no logs");
    }
    Ok(())
}
