//! `users set NAME`.

use nettailor_domain::ids::UserName;

use crate::client::{Client, Share};
use crate::error::Error;
use crate::output::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the user, who need not have submitted anything yet
    name: UserName,
    #[command(flatten)]
    changes: Changes,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Share of the slots beside others: 2 is twice as much as 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    weight: Option<u32>,
    /// Most slots at a time, or `none`
    #[arg(long, value_name = "N", value_parser = limit)]
    limit: Option<u32>,
    /// Slots that others make room for while this user waits
    #[arg(long, value_name = "N")]
    guarantee: Option<u32>,
}

/// Reads a number from 1, or `none`, which is 0 to the coordinator.
fn limit(text: &str) -> Result<u32, String> {
    match text {
        "none" => Ok(0),
        number => {
            let number = number.parse().ok().filter(|&number: &u32| number > 0);
            number.ok_or_else(|| "expected a number from 1, or none".to_owned())
        }
    }
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let Changes {
        weight,
        limit,
        guarantee,
    } = args.changes;
    let share = Share {
        weight,
        limit,
        guarantee,
    };
    console.detail(&client.set_user(&args.name, share).await?)
}
