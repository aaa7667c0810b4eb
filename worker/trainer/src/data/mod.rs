//! Labelled images, from the archive they travel in to batches of bytes.
//!
//! Read in this order:
//! - [`packed`]: images are decoded (`nettailor_images`) and resized once per node, into a memory-mapped file that every stage shares.
//! - [`splits`]: which images train, which choose the network, which test it.
//! - [`augment`]: random changes to training images.
//! - [`batches`]: the order of an epoch, and the thread that prepares batches ahead of the network.
//!
//! Everything random is a function of (seed, epoch, sample's name): no generator is shared, so an epoch can be
//! repeated from anywhere, and the number of threads changes nothing. Pixels stay bytes; the model normalises them.

mod augment;
mod batches;
mod error;
mod packed;
mod random;
mod splits;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use nettailor_domain::ids::Digest;
use nettailor_domain::task::{AugmentSettings, DataSettings, OnUnreadable};
use serde::{Deserialize, Serialize};

pub use batches::{Batches, Share};
pub use error::Error;
use packed::Packed;

/// Room that is kept around the input size where training cuts out random rectangles, so that a small rectangle
/// still has detail: stored side = 5/4 of the input's.
const CROP_MARGIN: (u32, u32) = (5, 4);

/// The part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Trained on.
    Train,
    /// Set aside to choose networks by: the archive's own, or a part of the training images.
    HeldOut,
    /// Measured once.
    Test,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Train => "training",
            Self::HeldOut => "held-out",
            Self::Test => "test",
        })
    }
}

/// Images of equal size with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Red, green, blue per pixel, rows from the top: N x `size` x `size` x 3.
    pub pixels: Vec<u8>,
    /// Index of the class of each image; N of them.
    pub labels: Vec<i64>,
    /// Index of each image in the data set; N of them.
    pub images: Vec<usize>,
    /// Side of the images in pixels.
    pub size: usize,
    /// Images of the batch that all ranks share: N, or more where this is a rank's part of it.
    pub whole: usize,
}

/// An image that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Its name in the archive.
    pub name: String,
    /// What the decoder said.
    pub reason: String,
}

/// A data set, decoded and split, as one rank of a gang sees it. Cheap to clone: the images are shared.
#[derive(Debug, Clone)]
pub struct Dataset {
    shared: Arc<Shared>,
    /// Which images of a batch, or batches of a split, this rank gets to see.
    share: Share,
}

/// What the threads that prepare batches need.
#[derive(Debug)]
struct Shared {
    packed: Packed,
    /// Label of each packed image.
    labels: Vec<i64>,
    /// Random identity of each packed image, from its name.
    ids: Vec<u64>,
    train: Vec<usize>,
    held_out: Vec<usize>,
    test: Vec<usize>,
    /// Side of the network's input, in pixels.
    size: usize,
    augment: AugmentSettings,
    seed: u64,
}

impl Dataset {
    /// Opens the data set in `archive` (a tar as [`nettailor_domain::archive`] describes it), whose digest is `data`.
    ///
    /// The first opening on a node decodes the images into `cache_dir/packed/`, while others that want the same wait;
    /// later ones map that file. `classes` are the class names in label order. `report` is told in words what takes
    /// long. The archive is not read, and need not exist, if it is packed already; its digest is taken on trust.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::class`] tells whether another attempt can help.
    pub fn open(
        archive: &Path,
        data: Digest,
        reading: &DataSettings,
        classes: &[String],
        seed: u64,
        cache_dir: &Path,
        report: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let packed = packed::open(archive, data, stored_size(reading), cache_dir, report)?;
        let index = packed.index();
        let unreadable = &index.unreadable;
        if !unreadable.is_empty() {
            match reading.on_unreadable {
                OnUnreadable::Fail => return Err(Error::Unreadable(unreadable.clone())),
                OnUnreadable::Skip => {
                    report(&format!(
                        "left out {} unreadable images: {}",
                        unreadable.len(),
                        error::named(unreadable)
                    ));
                }
            }
        }
        let label_of: HashMap<&str, usize> = classes
            .iter()
            .enumerate()
            .map(|(label, class)| (class.as_str(), label))
            .collect();
        let label = |sample: &packed::Sample| {
            let label = label_of.get(sample.class.as_str());
            label.copied().ok_or_else(|| Error::UnknownClass {
                name: sample.name.clone(),
                classes: classes.to_vec(),
            })
        };
        let labels = index
            .samples
            .iter()
            .map(label)
            .collect::<Result<Vec<usize>, Error>>()?;
        let [train, held_out, test] = splits::split(index, &labels, classes, reading, seed)?;
        let shared = Shared {
            labels: labels.iter().map(|&label| label as i64).collect(),
            ids: index
                .samples
                .iter()
                .map(|sample| random::id(&sample.name))
                .collect(),
            train,
            held_out,
            test,
            size: reading.image_size as usize,
            augment: reading.augment,
            seed,
            packed,
        };
        Ok(Self {
            shared: Arc::new(shared),
            share: Share::WHOLE,
        })
    }

    /// The same for one rank of a gang: batches hold its part only. All ranks together see what a single one would.
    pub fn for_rank(self, share: Share) -> Self {
        Self { share, ..self }
    }

    /// Fails where the gang has ranks that would get fewer than `least` images of a training batch.
    pub fn check_shares(&self, batch_size: usize, least: usize) -> Result<(), Error> {
        let images = batch_size.max(1).min(self.len(Split::Train));
        if self.share.of * least <= images {
            Ok(())
        } else {
            Err(Error::TooManyRanks {
                ranks: self.share.of,
                images,
                most: images / least,
            })
        }
    }

    /// Number of images of a split.
    pub fn len(&self, split: Split) -> usize {
        self.shared.members(split).len()
    }

    /// Whether a split has no images. Never true for one that was opened.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Name of an image in the archive. `index` is one of a [`Batch`].
    pub fn name(&self, index: usize) -> &str {
        &self.shared.packed.index().samples[index].name
    }

    /// Side of the images of a [`Batch`], in pixels.
    pub fn image_size(&self) -> usize {
        self.shared.size
    }

    /// Number of images that were left out because they could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable_images().len() as u64
    }

    /// The images that were left out.
    pub fn unreadable_images(&self) -> &[Unreadable] {
        &self.shared.packed.index().unreadable
    }

    /// Number of batches of [`Self::train_batches`]: the last partial one is dropped if there is a full one.
    pub fn train_steps(&self, batch_size: usize) -> usize {
        (self.len(Split::Train) / batch_size.max(1)).max(1)
    }

    /// The training images of an epoch (counted from any number, 0 say), shuffled and augmented: of each batch of
    /// `batch_size` the rank's part. A `batch_size` of 0 counts as 1. Batches are prepared on a thread of their own, which
    /// ends when the iterator is dropped.
    pub fn train_batches(&self, epoch: u32, batch_size: usize) -> Batches {
        self.train_batches_from(epoch, batch_size, 0)
    }

    /// The same without an epoch's `first` batches, which are not prepared either.
    pub fn train_batches_from(&self, epoch: u32, batch_size: usize, first: usize) -> Batches {
        Batches::train(self.shared.clone(), self.share, epoch, batch_size.max(1), first)
    }

    /// Of the first `count` batches of the epochs from 0 on the rank's part: whole batches.
    pub fn train_batches_dealt(&self, count: usize, batch_size: usize) -> Batches {
        Batches::train_dealt(self.shared.clone(), self.share, count, batch_size.max(1))
    }

    /// The images of a split in the archive's order, unchanged but for their size; the last batch may be smaller. A rank
    /// of a gang gets some of the batches, or none.
    pub fn eval_batches(&self, split: Split, batch_size: usize) -> Batches {
        Batches::eval(self.shared.clone(), self.share, split, batch_size.max(1))
    }
}

impl Shared {
    /// Indices of a split's images, ascending.
    fn members(&self, split: Split) -> &[usize] {
        match split {
            Split::Train => &self.train,
            Split::HeldOut => &self.held_out,
            Split::Test => &self.test,
        }
    }
}

/// Side at which images are kept, in pixels.
fn stored_size(reading: &DataSettings) -> u32 {
    match reading.augment.resized_crop {
        Some(_) => (reading.image_size * CROP_MARGIN.0).div_ceil(CROP_MARGIN.1),
        None => reading.image_size,
    }
}
