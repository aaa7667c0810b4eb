//! Labelled images in the formats that people have, and the one form in which a data set travels.
//!
//! - [`open`] lists what lies at a place: [`remote`] brings it here if it lies elsewhere, [`recognise`] tells its format,
//!   and one of [`formats`] lists it. A format is a [`Source`]: classes, images with class, split and name, and their
//!   bytes, in an order of its own that is always the same.
//! - [`archive`] writes any of them as a deterministic tar. Equal data on two machines have one digest.
//! - [`inspect`] decodes every image as the trainer would and says what it saw; [`sheet`] draws it.

mod archive;
mod error;
mod formats;
mod inspect;
mod recognise;
mod remote;
mod sheet;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nettailor_domain::archive::{EntryName, Folder};
use nettailor_domain::task::DataFormat;

pub(crate) use error::Error;
pub(crate) use inspect::{Class, Inspection, inspect};

use crate::output::Console;
use error::At;

/// Labelled images, listed but not read. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DataSet {
    /// What it was read as; never `auto`.
    pub(crate) format: DataFormat,
    /// Class names in label order: the data's own, or sorted by their bytes.
    pub(crate) classes: Arc<[String]>,
    /// What each split holds: `train` and perhaps `val` and `test`, or one split without a name.
    pub(crate) splits: Vec<SplitCounts>,
    /// Size of all images together, in bytes, as they are stored.
    pub(crate) bytes: u64,
    /// Files and folders that were passed over because they are no images or not where images are looked for.
    pub(crate) ignored: u64,
    /// What a reader should know, in words.
    pub(crate) notes: Vec<String>,
    images: Arc<[Image]>,
    source: Arc<dyn Source>,
    /// Keeps a copy of what lies elsewhere for as long as it may be read.
    _copy: Option<Arc<remote::Copy>>,
}

/// How many images a split holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SplitCounts {
    /// Which; [`Folder::Class`] where the data have no splits.
    pub(crate) folder: Folder,
    /// Images per class, in the order of [`DataSet::classes`].
    pub(crate) images: Vec<u64>,
}

impl SplitCounts {
    /// Images of all classes together.
    pub(crate) fn total(&self) -> u64 {
        self.images.iter().sum()
    }
}

/// One image: what it is of and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Image {
    folder: Folder,
    /// Index of its class.
    label: usize,
    /// Name, unique within class and split.
    file: String,
}

/// Where a format's images are read from.
trait Source: fmt::Debug + Send + Sync {
    /// Hands every image's bytes to `take`, in the order in which they were listed, and stops at its first error.
    ///
    /// Files are read now, not when they were listed.
    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> Result<(), Error>) -> Result<(), Error>;
}

/// What a format found at a place.
struct Listing {
    /// Class names in label order.
    classes: Vec<String>,
    /// In the order in which `source` reads them.
    images: Vec<Image>,
    source: Arc<dyn Source>,
    bytes: u64,
    ignored: u64,
    notes: Vec<String>,
}

/// Lists the images at `path`: a folder or a file relative to `base`, or a URL, which is copied here first.
///
/// Blocks, and must run where a tokio runtime's blocking calls may.
pub(crate) fn open(base: &Path, path: &str, format: DataFormat, console: &Console) -> Result<DataSet, Error> {
    match remote::location(path)? {
        None => list(&base.join(path), format),
        Some(remote::Location::Here(path)) => list(&path, format),
        Some(remote::Location::Elsewhere(url)) => {
            let copy = remote::copy(&url, format, console)?;
            let listed = list(copy.path(), format).map_err(|source| Error::Copy {
                url: url.to_string(),
                source: Box::new(source),
            })?;
            Ok(DataSet {
                _copy: Some(Arc::new(copy)),
                ..listed
            })
        }
    }
}

/// Lists the images at a place of this machine.
fn list(path: &Path, format: DataFormat) -> Result<DataSet, Error> {
    let place = recognise::place(path, format)?;
    DataSet::new(path, place.format, formats::list(&place)?)
}

impl DataSet {
    /// Checks what must hold whatever the format. `path` is where the data lie, for messages.
    fn new(path: &Path, format: DataFormat, listing: Listing) -> Result<Self, Error> {
        let Listing {
            classes,
            mut images,
            source,
            bytes,
            ignored,
            mut notes,
        } = listing;
        unique_classes(path, &classes)?;
        let mut splits =
            [Folder::Class, Folder::Train, Folder::Val, Folder::Test].map(|folder| SplitCounts {
                folder,
                images: vec![0; classes.len()],
            });
        for image in &images {
            let split = splits.iter_mut().find(|split| split.folder == image.folder);
            split.into_iter().for_each(|split| split.images[image.label] += 1);
        }
        let [whole, train, val, test] = &splits;
        let sum = |a: &SplitCounts, b: &SplitCounts| -> Vec<u64> {
            a.images.iter().zip(&b.images).map(|(a, b)| a + b).collect()
        };
        let (trained, measured) = (sum(whole, train), sum(val, test));
        let named = |holds: &dyn Fn(usize) -> bool| -> Vec<String> {
            let labels = (0..classes.len()).filter(|&label| holds(label));
            labels.map(|label| classes[label].clone()).collect()
        };
        let untrained = named(&|label| trained[label] == 0 && measured[label] > 0);
        if !untrained.is_empty() {
            return Err(Error::Untrained {
                path: path.to_owned(),
                classes: untrained,
            });
        }
        let kept: Vec<usize> = (0..classes.len()).filter(|&label| trained[label] > 0).collect();
        if kept.len() < 2 {
            return Err(Error::TooFewClasses {
                path: path.to_owned(),
                found: kept.len(),
            });
        }
        if kept.len() < classes.len() {
            let absent = error::some(&named(&|label| trained[label] == 0));
            notes.push(format!("classes without an image are left out: {absent}"));
        }
        for split in &mut splits {
            split.images = kept.iter().map(|&label| split.images[label]).collect();
        }
        for image in &mut images {
            // Every image's class is kept: it is trained, or was refused above.
            image.label = kept.partition_point(|&label| label < image.label);
        }
        Ok(Self {
            format,
            classes: kept.iter().map(|&label| classes[label].clone()).collect(),
            splits: splits.into_iter().filter(|split| split.total() > 0).collect(),
            bytes,
            ignored,
            notes,
            images: images.into(),
            source,
            _copy: None,
        })
    }

    /// Reads every image, in order.
    fn read(&self, mut take: impl FnMut(&Image, Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
        let mut images = self.images.iter();
        self.source.read(&mut |bytes| match images.next() {
            Some(image) => take(image, bytes),
            None => Err(Error::Changed),
        })?;
        match images.next() {
            Some(_) => Err(Error::Changed),
            None => Ok(()),
        }
    }

    /// The name of an image in the archive.
    fn entry(&self, image: &Image) -> EntryName {
        EntryName {
            folder: image.folder,
            class: self.classes[image.label].clone(),
            file: image.file.clone(),
        }
    }

    /// Images of all splits together.
    pub(crate) fn images(&self) -> u64 {
        self.splits.iter().map(SplitCounts::total).sum()
    }

    /// Number of images in a split.
    pub(crate) fn count(&self, folder: Folder) -> u64 {
        let split = self.splits.iter().find(|split| split.folder == folder);
        split.map_or(0, SplitCounts::total)
    }
}

fn unique_classes(path: &Path, classes: &[String]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for class in classes {
        if class.is_empty() || !seen.insert(class) {
            let found = if class.is_empty() {
                "an empty name".to_owned()
            } else {
                format!("`{class}` twice")
            };
            return Err(Error::content(
                path,
                At::Whole,
                "a name of its own for every class",
                found,
            ));
        }
    }
    Ok(())
}

/// Images that are files of their own.
#[derive(Debug)]
struct Files(Vec<PathBuf>);

/// Files read at a time, side by side: enough to hide the latency of opening small files, few enough that photographs
/// of some megabytes each stay far below a gigabyte in memory.
const READ_AHEAD: usize = 64;

impl Source for Files {
    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
        use rayon::prelude::*;
        for batch in self.0.chunks(READ_AHEAD) {
            let contents: Vec<Vec<u8>> = batch
                .par_iter()
                .map(|path| std::fs::read(path).map_err(Error::read(path)))
                .collect::<Result<_, _>>()?;
            contents.into_iter().try_for_each(&mut *take)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
