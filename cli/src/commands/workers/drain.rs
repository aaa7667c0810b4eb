//! `workers drain NAME`.

use nettailor_domain::ids::WorkerId;

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the worker
    name: WorkerId,
    /// Kept with the worker
    #[arg(long, value_name = "TEXT", default_value = "drained from the command line")]
    reason: String,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    console.detail(&client.drain(&args.name, &args.reason).await?)
}
