//! What can be wrong with data.

use std::io;
use std::path::PathBuf;

use nettailor_domain::archive::Misplaced;
use nettailor_domain::trainer::FailureClass;

use super::{Split, Unreadable};

/// Unreadable images that are named; the rest is counted.
const NAMED: usize = 10;

/// Why a data set could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is not there, or damaged.
    #[error("cannot read the data set's archive {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry that is no image of a class.
    #[error("data set archive: {0}, the same throughout")]
    Layout(#[from] Misplaced),
    /// An image of a class that the job does not know.
    #[error("image `{name}` is of no known class; expected one of {}. Submit the tasks file anew", classes.join(", "))]
    UnknownClass {
        /// Name of the image.
        name: String,
        /// Classes of the job.
        classes: Vec<String>,
    },
    /// Images that cannot be decoded, where none are tolerated.
    #[error(
        "{} images cannot be read: {}. Repair or remove them, or set `on_unreadable: skip` in the task's `data`",
        .0.len(), named(.0)
    )]
    Unreadable(Vec<Unreadable>),
    /// A class that cannot be learnt.
    #[error("class `{class}` has no readable image left to train on; add images or remove the class")]
    EmptyClass {
        /// Name of the class.
        class: String,
    },
    /// A split that cannot be measured on.
    #[error(
        "the {split} split is empty; add images (a class needs one, one more without a val folder, and one more without a \
         test folder)"
    )]
    EmptySplit {
        /// Which.
        split: Split,
    },
    /// A batch that is too small to be shared.
    #[error(
        "a batch of {images} images cannot be shared by {ranks} ranks; ask for at most {most} workers, or for a larger \
         batch_size if there are images for it"
    )]
    TooManyRanks {
        /// Ranks of the gang.
        ranks: usize,
        /// Images of a training batch.
        images: usize,
        /// Ranks for which they are enough.
        most: usize,
    },
    /// The node's cache refused.
    #[error("cannot {operation} {}; check the disk's free space and the folder's permissions", path.display())]
    Cache {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread that prepares batches could not be started.
    #[error("cannot start a thread to prepare batches")]
    Thread(#[source] io::Error),
    /// The thread that prepares batches ended early.
    #[error("preparing batches stopped early, a defect; see the log above for its cause")]
    Stopped,
}

impl Error {
    /// Whether trying again can help.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Layout(_)
            | Self::UnknownClass { .. }
            | Self::Unreadable(_)
            | Self::EmptyClass { .. }
            | Self::EmptySplit { .. }
            | Self::TooManyRanks { .. } => FailureClass::Input,
            Self::Archive { .. } | Self::Cache { .. } | Self::Thread(_) => FailureClass::Resources,
            Self::Stopped => FailureClass::Internal,
        }
    }
}

/// The first of `images` by name and reason, and how many follow.
pub(super) fn named(images: &[Unreadable]) -> String {
    let first = images
        .iter()
        .take(NAMED)
        .map(|image| format!("`{}` ({})", image.name, image.reason));
    let mut text = first.collect::<Vec<_>>().join(", ");
    if images.len() > NAMED {
        text += &format!(" and {} more", images.len() - NAMED);
    }
    text
}
