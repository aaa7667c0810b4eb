//! Why something is no data set: where, what was expected, what was found, what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nettailor_domain::task::DataFormat;

/// Names that are listed; the rest is counted.
const NAMED: usize = 10;

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing there.
    #[error("{}: there is no such file or folder. Correct the path (a task's `data.path` is relative to the tasks file)",
        path.display())]
    Absent {
        /// As resolved.
        path: PathBuf,
    },
    /// None of the formats.
    #[error("{}: no known format of data; looked for {}. Correct `data.path`, or name the format (`data.format`) to be \
        told what it lacks", path.display(), looked_for.join("; "))]
    Unrecognised {
        /// As resolved.
        path: PathBuf,
        /// What was looked for, each in words.
        looked_for: Vec<String>,
    },
    /// More than one of the formats.
    #[error("{}: this may be {}; say which with `data.format` (`--format`)", path.display(), formats(found, " or "))]
    Ambiguous {
        /// As resolved.
        path: PathBuf,
        /// What it may be.
        found: Vec<DataFormat>,
    },
    /// What a format consists of is not there.
    #[error("{}: this is no data set in the format `{}`: {missing}", path.display(), format.as_str())]
    Layout {
        /// As resolved.
        path: PathBuf,
        /// What was asked for or recognised.
        format: DataFormat,
        /// What it lacks.
        missing: String,
    },
    /// Too few classes to tell anything apart.
    #[error("{}: found {found} class(es) with training images, need at least 2", path.display())]
    TooFewClasses {
        /// The data, or the folder whose subfolders are classes.
        path: PathBuf,
        /// Classes found.
        found: usize,
    },
    /// A class folder that holds nothing to learn from.
    #[error("{}: no image in this class folder; expected files ending in {}. Add images or remove the folder",
        path.display(), nettailor_images::EXTENSIONS.join(", "))]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
    },
    /// A class folder of a class that cannot be learnt.
    #[error("{}: this class has no folder under `train`; expected one of {}. Rename or remove it", path.display(),
        some(known))]
    UnknownClass {
        /// The class folder under `test` or `val`.
        path: PathBuf,
        /// Classes under `train`.
        known: Vec<String>,
    },
    /// Classes that can be measured but not learnt.
    #[error("{}: no training image of {}, which val or test have images of. Add training images or remove those",
        path.display(), some(classes))]
    Untrained {
        /// The data.
        path: PathBuf,
        /// Names of the classes.
        classes: Vec<String>,
    },
    /// Images that are named and not there.
    #[error("{}: {} of the images that it names cannot be found: {}. Names are relative to {}", path.display(),
        missing.len(), some(missing), base.display())]
    Missing {
        /// The file that names them.
        path: PathBuf,
        /// Where names start.
        base: PathBuf,
        /// Each with its place.
        missing: Vec<String>,
    },
    /// A file that does not hold what its format says.
    #[error("{}{at}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: At,
        /// What should be there, and what to do where that does not follow.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A name that cannot travel.
    #[error("{}: the name is not valid UTF-8; rename it", path.display())]
    Name {
        /// The file or folder.
        path: PathBuf,
    },
    /// The operating system refused to read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive's destination refused it.
    #[error("cannot write the data set's archive")]
    Write(#[source] io::Error),
    /// Somebody writes to the data.
    #[error("the data changed while they were read; try again once nobody writes to them")]
    Changed,
    /// No address of data.
    #[error("{url}: {problem}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The object store did not give the data.
    #[error("cannot fetch {url}{}", hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Fetch {
        /// What was asked for.
        url: String,
        /// What may help.
        hint: Option<String>,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no place for a copy of the data.
    #[error("cannot keep a copy of {url} in {}; check the disk's free space and the folder's permissions", path.display())]
    Keep {
        /// What was copied.
        url: String,
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What was copied here is no data set.
    #[error("in the copy of {url}")]
    Copy {
        /// The original.
        url: String,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
}

impl Error {
    /// A file that does not hold what its format says.
    pub(super) fn content(
        path: &Path,
        at: At,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Content {
            path: path.to_owned(),
            at,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The operating system refused to read `path`.
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    /// Nowhere in particular.
    Whole,
    /// A line of text, counted from 1.
    Line(u64),
    /// A byte, counted from 0.
    Byte(u64),
    /// A row of a table, counted from 0.
    Row(u64),
    /// A path through a document.
    Key(String),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Line(line) => write!(f, ", line {line}"),
            Self::Byte(byte) => write!(f, ", byte {byte}"),
            Self::Row(row) => write!(f, ", row {row}"),
            Self::Key(key) => write!(f, ", {key}"),
        }
    }
}

/// The first of `names`, and how many follow.
pub(super) fn some(names: &[String]) -> String {
    let mut text = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        text += &format!(" and {} more", names.len() - NAMED);
    }
    text
}

fn formats(formats: &[DataFormat], between: &str) -> String {
    let names: Vec<String> = formats
        .iter()
        .map(|format| format!("`{}`", format.as_str()))
        .collect();
    names.join(between)
}
