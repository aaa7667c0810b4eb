//! Which format lies at a place.

use std::path::{Path, PathBuf};

use nettailor_domain::task::DataFormat;

use super::Error;
use super::formats::{cifar, decathlon, folder, manifest, mnist, parquet};

/// Data on this machine, and how they lie there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Never `auto`.
    pub(super) format: DataFormat,
}

/// Tells the format of what lies at `path`, unless that is said.
pub(super) fn place(path: &Path, format: DataFormat) -> Result<Place, Error> {
    let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Absent {
            path: path.to_owned(),
        },
        _ => Error::Read {
            path: path.to_owned(),
            source,
        },
    })?;
    let place = |format| Place {
        path: path.to_owned(),
        format,
    };
    if format == DataFormat::Auto {
        return recognise(path, metadata.is_dir()).map(place);
    }
    if metadata.is_file() && !takes_file(format) {
        return Err(Error::Layout {
            path: path.to_owned(),
            format,
            missing: "expected a folder, found a file".to_owned(),
        });
    }
    Ok(place(format))
}

/// Whether the format may be named by one of its files.
fn takes_file(format: DataFormat) -> bool {
    use DataFormat::{Csv, Decathlon, Mnist, Parquet};
    matches!(format, Decathlon | Mnist | Parquet | Csv)
}

/// The format of a file by its name.
pub(super) fn of_file(name: &str) -> Option<DataFormat> {
    if name.ends_with(".csv") {
        Some(DataFormat::Csv)
    } else if name.ends_with(".parquet") {
        Some(DataFormat::Parquet)
    } else if decathlon::set_of(name).is_some() {
        Some(DataFormat::Decathlon)
    } else {
        name.contains("train-images").then_some(DataFormat::Mnist)
    }
}

fn recognise(path: &Path, is_dir: bool) -> Result<DataFormat, Error> {
    if !is_dir {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return of_file(&name).ok_or_else(|| Error::Unrecognised {
            path: path.to_owned(),
            looked_for: [
                format!("a folder with {}", folder::LAYOUT),
                "a file *.csv, *.parquet, *_train.json or *train-images-idx3-ubyte".to_owned(),
            ]
            .into(),
        });
    }
    let found: Vec<DataFormat> = DataFormat::ALL
        .into_iter()
        .filter(|format| lies_in(path, *format))
        .collect();
    match *found {
        [format] => Ok(format),
        // Images in folders are the last thing to look for: annotations and tables name images in folders, too.
        [] if folder::has_classes(path) => Ok(DataFormat::Folder),
        [] => Err(Error::Unrecognised {
            path: path.to_owned(),
            looked_for: looked_for(),
        }),
        _ => Err(Error::Ambiguous {
            path: path.to_owned(),
            found,
        }),
    }
}

/// Whether the folder holds what no other format has.
fn lies_in(path: &Path, format: DataFormat) -> bool {
    match format {
        DataFormat::Auto => false,
        // Parquet files may lie in a folder `train`, too.
        DataFormat::Folder => folder::has_splits(path) && parquet::files(path).is_empty(),
        DataFormat::Decathlon => !decathlon::sets(path).is_empty(),
        DataFormat::Cifar10 => cifar::find(path, &cifar::TEN).is_some(),
        DataFormat::Cifar100 => cifar::find(path, &cifar::HUNDRED).is_some(),
        DataFormat::Mnist => !mnist::sets(path).is_empty(),
        DataFormat::Parquet => !parquet::files(path).is_empty(),
        DataFormat::Csv => path.join(manifest::FILE).is_file(),
    }
}

fn looked_for() -> Vec<String> {
    let cifar = |variant: &cifar::Variant| format!("{} with {}", variant.train[0], variant.names);
    vec![
        folder::LAYOUT.to_owned(),
        format!("{}/*_train.json", decathlon::ANNOTATIONS),
        cifar(&cifar::TEN),
        cifar(&cifar::HUNDRED),
        "train-images-idx3-ubyte(.gz)".to_owned(),
        "train-*.parquet, there or in data/".to_owned(),
        manifest::FILE.to_owned(),
    ]
}
