//! `registry get TASK[@VERSION]`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueHint;
use nettailor_domain::ids::TaskName;

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::report;
use crate::views::ModelView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model; without a version, the task's newest
    #[arg(value_name = "TASK[@VERSION]")]
    model: ModelName,
    /// Write a picture of the network to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    svg: Option<PathBuf>,
}

/// `digits` or `digits@3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelName {
    pub(crate) task: TaskName,
    pub(crate) version: Option<u32>,
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (task, version) = match text.split_once('@') {
            None => (text, None),
            Some((task, version)) => {
                let number = version.parse().ok().filter(|&number: &u32| number > 0);
                let number =
                    number.ok_or_else(|| format!("version `{version}`: expected a number from 1"))?;
                (task, Some(number))
            }
        };
        Ok(Self {
            task: task
                .parse()
                .map_err(|error: nettailor_domain::ids::InvalidId| error.to_string())?,
            version,
        })
    }
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let model = client.model(&args.model.task, args.model.version).await?;
    if let Some(path) = args.svg {
        report::write_picture(&model, &path)?;
        console.note(format_args!("picture: {}", path.display()));
    }
    console.detail(&ModelView::in_full(&model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_optional() {
        let read = |text: &str| {
            text.parse::<ModelName>()
                .map(|name| (name.task.to_string(), name.version))
        };
        assert_eq!(read("digits"), Ok(("digits".into(), None)));
        assert_eq!(read("digits@12"), Ok(("digits".into(), Some(12))));
        for wrong in ["digits@", "digits@0", "digits@new", "@1", "Digits", "digits@1@2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
