//! `workers explain NAME`.

use nettailor_domain::ids::WorkerId;

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::views::ExplanationView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the worker
    name: WorkerId,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let explanation = client.explain_worker(&args.name).await?;
    console.detail(&ExplanationView::from(explanation))
}
