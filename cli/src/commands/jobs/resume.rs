//! `jobs resume ID`.

use super::as_changed;
use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has
    id: String,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    as_changed(&client.resume(&args.id).await?, console)
}
