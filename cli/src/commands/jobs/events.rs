//! `jobs events ID`.

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has
    id: String,
    /// Go on until the job has ended
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let events = client.events(&args.id, args.follow).await?;
    super::print(events, console).await.map(drop)
}
