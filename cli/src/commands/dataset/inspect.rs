//! `dataset inspect PATH`.

use std::path::{Path, PathBuf};

use clap::ValueHint;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nettailor_domain::task::DataFormat;

use crate::error::Error;
use crate::inputs::dataset;
use crate::output::Console;
use crate::views::InspectionView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder, file or URL, as in a task's `data.path`
    #[arg(value_hint = ValueHint::AnyPath)]
    path: String,
    /// How the images lie there
    #[arg(long, value_name = "FORMAT", default_value = DataFormat::Auto.as_str(), value_parser = format_parser())]
    format: DataFormat,
    /// Write a picture of some images of each class
    #[arg(long, value_name = "FILE.png", value_hint = ValueHint::FilePath)]
    sheet: Option<PathBuf>,
}

pub(super) async fn run(args: Args, console: &Console) -> Result<(), Error> {
    let Args { path, format, sheet } = args;
    let (data, reader, with_sheet) = (path.clone(), console.clone(), sheet.is_some());
    let looked = tokio::task::spawn_blocking(move || {
        let data = dataset::open(Path::new(""), &data, format, &reader)?;
        dataset::inspect(&data, with_sheet)
    });
    let (inspection, drawn) = looked.await.map_err(|source| Error::System {
        action: "look at the images",
        source: source.into(),
    })??;
    if let (Some(file), Some(drawn)) = (sheet, drawn) {
        let png = drawn.png().map_err(std::io::Error::other);
        let written = png.and_then(|png| std::fs::write(&file, png));
        written.map_err(|source| Error::Write { path: file, source })?;
        if drawn.left_out > 0 {
            console.note(format_args!(
                "{} classes found no room on the sheet",
                drawn.left_out
            ));
        }
    }
    for note in &inspection.notes {
        console.note(note);
    }
    let broken = inspection.broken.len();
    console.detail(&InspectionView { path, inspection })?;
    if broken > 0 {
        return Err(Error::Broken { images: broken });
    }
    Ok(())
}

fn format_parser() -> impl TypedValueParser<Value = DataFormat> {
    let known = || [DataFormat::Auto].into_iter().chain(DataFormat::ALL);
    let names = known().map(DataFormat::as_str);
    PossibleValuesParser::new(names)
        .map(move |name| known().find(|format| format.as_str() == name).unwrap_or_default())
}
