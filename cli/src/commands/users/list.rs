//! `users list`.

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

pub(super) async fn run(client: &Client, console: &Console) -> Result<(), Error> {
    console.list(
        &client.users().await?,
        "no users yet; `submit --user NAME` makes one",
    )
}
