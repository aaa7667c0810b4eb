//! `registry list`.

use nettailor_domain::model::ModelQuery;

use super::search;
use crate::client::Client;
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Older versions, too
    #[arg(long)]
    all_versions: bool,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let query = ModelQuery {
        all_versions: args.all_versions,
        ..ModelQuery::default()
    };
    search::print(query, client, console, "no models yet").await
}
