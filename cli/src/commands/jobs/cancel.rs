//! `jobs cancel ID`.

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::views::JobState;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has
    id: String,
    /// Kept with the job
    #[arg(long, value_name = "TEXT", default_value = "cancelled from the command line")]
    reason: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let job = client.job(&args.id).await?;
    if !job.state.is_final() && !args.yes {
        let question = format!("Cancel job {} (task {})?", job.id, job.task);
        let answer = console.confirm(&question);
        if answer != Some(true) {
            return Err(Error::NotConfirmed {
                question,
                asked: answer.is_some(),
            });
        }
    }
    let job = client.cancel(&job.id, &args.reason).await?;
    match job.state {
        JobState::Succeeded | JobState::Failed => Err(Error::AlreadyEnded {
            id: job.id,
            state: job.state.as_str().to_owned(),
        }),
        _ => console.detail(&job),
    }
}
