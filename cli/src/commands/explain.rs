//! `explain ID|WORKER`: why a job, or else a worker, stands where it stands.

use nettailor_domain::explain::Explanation;
use nettailor_proto::exit::Exit;
use nettailor_proto::status::Code;

use super::Connection;
use crate::args::Global;
use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::views::ExplanationView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id, or a beginning that no other job has; or else the name of a worker
    #[arg(value_name = "ID|WORKER")]
    name: String,
}

pub(crate) async fn run(args: Args, global: &Global, console: &Console) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let result = find(&args.name, &connection.client).await;
    let result = result.and_then(|explanation| console.detail(&ExplanationView::from(explanation)));
    connection.close(result).await
}

async fn find(name: &str, client: &Client) -> Result<Explanation, Error> {
    let error = match client.explain_job(name, None).await {
        Err(error) if is_no_job(&error) => error,
        job => return job,
    };
    // What cannot be the name of a worker can only have been meant for a job.
    let Ok(worker) = name.parse() else {
        return Err(error);
    };
    match client.explain_worker(&worker).await {
        Err(other) if other.exit() == Exit::NotFound => Err(match error.exit() {
            Exit::NotFound => Error::Nobody {
                name: name.to_owned(),
            },
            // Several jobs begin like this.
            _ => error,
        }),
        worker => worker,
    }
}

/// Whether there is not one job of this name, so that a worker may be meant.
fn is_no_job(error: &Error) -> bool {
    matches!(error, Error::Refused { source, .. } if matches!(source.code, Code::JobNotFound | Code::AmbiguousJob))
}
