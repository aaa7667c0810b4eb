//! `registry search`.

use clap::ValueEnum;
use nettailor_domain::model::{ModelQuery, SortKey};

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::quantity::{parse_count, parse_percent};
use crate::views::ModelView;

/// Every bound given must hold. Counts take suffixes (3M, 0.2G), accuracies are percent (97.5).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tasks whose name contains this
    #[arg(long, value_name = "TEXT")]
    task: Option<String>,
    /// Least accuracy on the test split, in percent: 97.5
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    min_accuracy: Option<f64>,
    /// Most active parameters: 3M
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    max_params: Option<u64>,
    /// Most FLOPs (multiply-accumulates) for one image: 0.2G
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    max_flops: Option<u64>,
    /// Order
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    sort: Sort,
    /// Largest first
    #[arg(long)]
    desc: bool,
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Older versions, too
    #[arg(long)]
    all_versions: bool,
}

/// What can be sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Name of the task.
    #[default]
    Task,
    /// Accuracy on the test split.
    Accuracy,
    /// Active parameters.
    Params,
    /// Active FLOPs.
    Flops,
    /// Time of publication.
    Published,
}

impl From<Sort> for SortKey {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Task => Self::Task,
            Sort::Accuracy => Self::Accuracy,
            Sort::Params => Self::Params,
            Sort::Flops => Self::Flops,
            Sort::Published => Self::Published,
        }
    }
}

impl From<Args> for ModelQuery {
    fn from(args: Args) -> Self {
        Self {
            task: args.task,
            min_accuracy: args.min_accuracy,
            max_params: args.max_params,
            max_flops: args.max_flops,
            all_versions: args.all_versions,
            sort: args.sort.into(),
            descending: args.desc,
            limit: args.limit.map(|limit| limit as usize),
        }
    }
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    print(args.into(), client, console, "no model is like that").await
}

/// Prints the models that answer `query`.
pub(super) async fn print(
    query: ModelQuery,
    client: &Client,
    console: &Console,
    empty: &str,
) -> Result<(), Error> {
    let models: Vec<ModelView> = client.search(query).await?.iter().map(ModelView::from).collect();
    console.list(&models, empty)
}
