//! `backbone import FILE --arch ARCH`.

use std::path::PathBuf;

use clap::ValueHint;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use nettailor_domain::backbone::BackboneName;

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::submission;
use crate::views::BackboneView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Weights as their publisher distributes them: .safetensors, .pth or .pt
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The network that the file holds
    #[arg(long, value_name = "ARCH", value_parser = arch_parser())]
    arch: BackboneName,
}

pub(super) async fn run(args: Args, client: &Client, console: &Console) -> Result<(), Error> {
    let weights = submission::import_backbone(client, &args.file, args.arch, console).await?;
    let source = args
        .file
        .file_name()
        .unwrap_or(args.file.as_os_str())
        .to_string_lossy();
    let backbone = client.register_backbone(args.arch, weights, &source).await?;
    console.detail(&BackboneView::from(backbone))
}

fn arch_parser() -> impl clap::builder::TypedValueParser<Value = BackboneName> {
    let names = BackboneName::ALL.map(|name| name.as_str());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<BackboneName>())
}
