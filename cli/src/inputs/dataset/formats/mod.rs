//! One file per format. Each lists what lies at a place; [`super::DataSet::new`] checks what all have in common.

pub(super) mod cifar;
pub(super) mod decathlon;
pub(super) mod folder;
pub(super) mod manifest;
pub(super) mod mnist;
pub(super) mod parquet;
mod raster;

use nettailor_domain::task::DataFormat;

use super::recognise::Place;
use super::{Error, Listing};

/// Lists what lies at `place`.
pub(super) fn list(place: &Place) -> Result<Listing, Error> {
    let path = &place.path;
    match place.format {
        DataFormat::Auto | DataFormat::Folder => folder::list(path),
        DataFormat::Decathlon => decathlon::list(path),
        DataFormat::Cifar10 => cifar::list(path, &cifar::TEN),
        DataFormat::Cifar100 => cifar::list(path, &cifar::HUNDRED),
        DataFormat::Mnist => mnist::list(path),
        DataFormat::Parquet => parquet::list(path),
        DataFormat::Csv => manifest::list(path),
    }
}
