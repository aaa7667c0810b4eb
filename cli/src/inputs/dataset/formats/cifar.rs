//! CIFAR-10 and CIFAR-100, binary versions: records of one or two label bytes and 32 x 32 pixels, red, green, blue plane.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nettailor_domain::archive::Folder;
use nettailor_domain::task::DataFormat;

use super::super::error::At;
use super::super::{Error, Image, Listing};
use super::raster::{self, Pixels, RecordFile, Records};

const PIXELS: Pixels = Pixels::Planar { side: 32 };

/// What distinguishes the two.
pub(in super::super) struct Variant {
    format: DataFormat,
    /// Folder that its archive unpacks to.
    pub(in super::super) folder: &'static str,
    /// Files of training images; the first must be there, the others may be absent from the end.
    pub(in super::super) train: &'static [&'static str],
    pub(in super::super) test: &'static str,
    /// File of class names, one a line.
    pub(in super::super) names: &'static str,
    classes: usize,
    /// Label bytes of a record; the last one counts.
    labels: usize,
}

/// CIFAR-10.
pub(in super::super) const TEN: Variant = Variant {
    format: DataFormat::Cifar10,
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    classes: 10,
    labels: 1,
};

/// CIFAR-100, by its fine labels.
pub(in super::super) const HUNDRED: Variant = Variant {
    format: DataFormat::Cifar100,
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    classes: 100,
    labels: 2,
};

/// The folder of the variant's files: `path` itself, or the one in it that the archive unpacks to.
pub(in super::super) fn find(path: &Path, variant: &Variant) -> Option<PathBuf> {
    [path.to_owned(), path.join(variant.folder)]
        .into_iter()
        .find(|folder| folder.join(variant.train[0]).is_file() && folder.join(variant.names).is_file())
}

/// Lists the records under `path`.
pub(super) fn list(path: &Path, variant: &Variant) -> Result<Listing, Error> {
    let folder = find(path, variant).ok_or_else(|| Error::Layout {
        path: path.to_owned(),
        format: variant.format,
        missing: format!(
            "expected {} and {} there or in {}/ (the binary version, unpacked)",
            variant.train[0], variant.names, variant.folder
        ),
    })?;
    let classes = class_names(&folder.join(variant.names), variant.classes)?;
    let mut listing = Listed::default();
    let there = |name: &str| folder.join(name).is_file();
    let last = variant
        .train
        .iter()
        .rposition(|name| there(name))
        .unwrap_or_default();
    for name in &variant.train[..=last] {
        listing.file(folder.join(name), Folder::Train, variant)?;
    }
    if there(variant.test) {
        listing.file(folder.join(variant.test), Folder::Test, variant)?;
    }
    let mut notes = Vec::new();
    if last + 1 < variant.train.len() {
        notes.push(format!(
            "{} and what follows it are not there: trained on less",
            variant.train[last + 1]
        ));
    }
    Ok(Listing {
        classes,
        bytes: (listing.images.len() * PIXELS.bytes()) as u64,
        images: listing.images,
        source: Arc::new(Records(listing.files)),
        ignored: 0,
        notes,
    })
}

fn class_names(path: &Path, count: usize) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.len() == count {
        return Ok(names);
    }
    let expected = format!("{count} names of classes, one a line");
    Err(Error::content(path, At::Whole, expected, names.len().to_string()))
}

#[derive(Default)]
struct Listed {
    images: Vec<Image>,
    files: Vec<RecordFile>,
}

impl Listed {
    fn file(&mut self, path: PathBuf, folder: Folder, variant: &Variant) -> Result<(), Error> {
        let mut record = vec![0; variant.labels + PIXELS.bytes()];
        let mut bytes = raster::open(&path)?;
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut number = 0;
        loop {
            let begin = number * record.len();
            // The end of the file is where a record would begin, and nowhere else.
            if bytes.read(&mut record[..1]).map_err(Error::read(&path))? == 0 {
                break;
            }
            raster::fill(&mut bytes, &path, &mut record[1..], begin + 1)?;
            let label = usize::from(record[variant.labels - 1]);
            if label >= variant.classes {
                let expected = format!("a label from 0 to {} in record {number}", variant.classes - 1);
                let at = At::Byte((begin + variant.labels - 1) as u64);
                return Err(Error::content(&path, at, expected, label.to_string()));
            }
            self.images.push(Image {
                folder,
                label,
                file: format!("{stem}-{number:05}.ppm"),
            });
            number += 1;
        }
        if number == 0 {
            let expected = format!("records of {} bytes; fetch the file again", record.len());
            return Err(Error::content(&path, At::Byte(0), expected, "an empty file"));
        }
        self.files.push(RecordFile {
            path,
            header: 0,
            prefix: variant.labels,
            records: number,
            pixels: PIXELS,
        });
        Ok(())
    }
}
