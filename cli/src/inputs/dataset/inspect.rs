//! Looking at every image of a data set as the trainer would.

use std::collections::BTreeMap;

use nettailor_domain::archive::Folder;
use nettailor_images::Picture;
use rayon::prelude::*;
use serde::Serialize;

use super::sheet::{self, Sheet};
use super::{DataSet, Error, Image};

/// Images decoded at a time, side by side: enough to keep every core busy.
const BATCH: usize = 64;
/// Name of the only split where there are no splits.
const WHOLE: &str = "all";

/// What a data set holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Inspection {
    pub(crate) format: &'static str,
    pub(crate) images: u64,
    /// Size of all encoded images together.
    pub(crate) bytes: u64,
    /// Images per split; `all` where the data have no splits.
    pub(crate) splits: BTreeMap<&'static str, u64>,
    /// In label order.
    pub(crate) classes: Vec<Class>,
    /// Null where no image can be read.
    pub(crate) sizes: Option<Sizes>,
    /// Images that the trainer cannot read.
    pub(crate) broken: Vec<Broken>,
    /// Files that are no images or not where images are looked for.
    pub(crate) ignored_files: u64,
    pub(crate) notes: Vec<String>,
}

/// How many images a class has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Class {
    pub(crate) class: String,
    /// Per split, as in [`Inspection::splits`].
    pub(crate) images: BTreeMap<&'static str, u64>,
}

/// Width and height of images in pixels, ordered by their areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Sizes {
    pub(crate) least: (u32, u32),
    pub(crate) median: (u32, u32),
    pub(crate) largest: (u32, u32),
}

/// An image that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Broken {
    /// Its name in the archive: split, class, file.
    pub(crate) name: String,
    /// The decoder's words.
    pub(crate) reason: String,
}

/// Decodes every image of `data`; also draws some of each class where `with_sheet`.
pub(crate) fn inspect(data: &DataSet, with_sheet: bool) -> Result<(Inspection, Option<Sheet>), Error> {
    let mut seen = Seen {
        data,
        bytes: 0,
        sizes: vec![],
        broken: vec![],
        sheet: with_sheet.then(|| Sheet::plan(&data.classes, &data.images)),
        next: 0,
    };
    let mut batch = Vec::with_capacity(BATCH);
    data.read(|image, bytes| {
        batch.push((image.clone(), bytes));
        if batch.len() == BATCH {
            seen.look(std::mem::take(&mut batch));
        }
        Ok(())
    })?;
    seen.look(batch);
    let Seen {
        bytes,
        mut sizes,
        broken,
        sheet,
        ..
    } = seen;
    sizes.sort_unstable_by_key(|&(width, height)| (u64::from(width) * u64::from(height), width));
    let name = |folder: Folder| folder.name().unwrap_or(WHOLE);
    let class = |(label, class): (usize, &String)| Class {
        class: class.clone(),
        images: data
            .splits
            .iter()
            .map(|split| (name(split.folder), split.images[label]))
            .collect(),
    };
    let inspection = Inspection {
        format: data.format.as_str(),
        images: data.images.len() as u64,
        bytes,
        splits: data
            .splits
            .iter()
            .map(|split| (name(split.folder), split.total()))
            .collect(),
        classes: data.classes.iter().enumerate().map(class).collect(),
        sizes: sizes.first().zip(sizes.last()).map(|(&least, &largest)| Sizes {
            least,
            median: sizes[sizes.len() / 2],
            largest,
        }),
        broken,
        ignored_files: data.ignored,
        notes: data.notes.clone(),
    };
    Ok((inspection, sheet))
}

/// What has been seen so far.
struct Seen<'a> {
    data: &'a DataSet,
    bytes: u64,
    sizes: Vec<(u32, u32)>,
    broken: Vec<Broken>,
    sheet: Option<Sheet>,
    /// Number of the next image.
    next: usize,
}

impl Seen<'_> {
    fn look(&mut self, batch: Vec<(Image, Vec<u8>)>) {
        let (first, sheet) = (self.next, &self.sheet);
        let looked: Vec<_> = batch
            .par_iter()
            .enumerate()
            .map(|(number, (_, bytes))| {
                let picture = Picture::decode(bytes)?;
                let drawn = sheet.as_ref().is_some_and(|sheet| sheet.wants(first + number));
                let square = if drawn {
                    Some(picture.square(sheet::SIDE)?)
                } else {
                    None
                };
                Ok::<_, String>((picture.size(), square))
            })
            .collect();
        for ((image, bytes), looked) in batch.into_iter().zip(looked) {
            self.bytes += bytes.len() as u64;
            match looked {
                Ok((size, square)) => {
                    self.sizes.push(size);
                    if let (Some(sheet), Some(square)) = (&mut self.sheet, square) {
                        sheet.draw(self.next, &square);
                    }
                }
                Err(reason) => self.broken.push(Broken {
                    name: self.data.entry(&image).to_string(),
                    reason,
                }),
            }
            self.next += 1;
        }
    }
}
