//! `jobs explain ID`.

use nettailor_domain::stage::StageKind;

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::views::ExplanationView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has
    id: String,
    /// Of this stage: teacher, student, candidate(6), select [default: the one that holds the job up]
    #[arg(long, value_name = "STAGE")]
    stage: Option<StageKind>,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let explanation = client.explain_job(&args.id, args.stage).await?;
    console.detail(&ExplanationView::from(explanation))
}
