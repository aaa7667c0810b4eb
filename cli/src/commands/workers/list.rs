//! `workers list`.

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

pub(super) async fn run(client: &Client, console: &Console) -> Result<(), Error> {
    console.list(
        &client.workers().await?,
        "no workers; start one with `nettailor-worker --coordinator URL`",
    )
}
