//! `jobs logs ID`.

use futures::TryStreamExt as _;

use crate::client::Client;
use crate::error::Error;
use crate::follow;
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
    tokio::pin!(lines);
    let printed = async {
        while let Some(line) = lines.try_next().await? {
            console.line(&line, &line)?;
        }
        Ok(())
    };
    tokio::select! {
        printed = printed => printed,
        () = follow::interrupted() => Err(Error::Detached { jobs: Vec::new() }),
    }
}
