//! Listing an image folder and saying what is wrong with it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Entry, ImageFolder, SplitCounts};

/// File name endings (in any case) of the formats that the trainer decodes.
const IMAGE_EXTENSIONS: [&str; 10] = [
    "png", "jpg", "jpeg", "pgm", "ppm", "pnm", "pbm", "bmp", "gif", "webp",
];
const LAYOUT: &str =
    "expected `train/<class>/<image>` and perhaps `test/<class>/<image>`, or `<class>/<image>` alone";

/// Why a folder is no data set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing there, or no folder.
    #[error("{}: {found}; {LAYOUT}. Correct the task's `data.path` (it is relative to the tasks file)", path.display())]
    NotAFolder {
        /// As resolved.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// Too few class folders to tell anything apart.
    #[error("{}: found {found} class folder(s), need at least 2; {LAYOUT}", path.display())]
    TooFewClasses {
        /// The folder whose subfolders are classes.
        path: PathBuf,
        /// Class folders found.
        found: usize,
    },
    /// A class folder that holds nothing to learn from.
    #[error("{}: no image in this class folder; expected files ending in {}. Add images or remove the folder",
        path.display(), IMAGE_EXTENSIONS.join(", "))]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
    },
    /// A class that can be tested but not learnt.
    #[error("{}: this class has no folder under `train`; expected one of {}. Rename or remove it", path.display(),
        known.join(", "))]
    UnknownTestClass {
        /// The class folder under `test`.
        path: PathBuf,
        /// Classes under `train`.
        known: Vec<String>,
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
}

/// Lists the images under `path`. Links are followed; names that start with a dot are passed over without a word.
pub(crate) fn scan(path: &Path) -> Result<ImageFolder, Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(Error::NotAFolder {
                path: path.to_owned(),
                found: "this is a file",
            });
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotAFolder {
                path: path.to_owned(),
                found: "there is no such folder",
            });
        }
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    }
    let mut listing = Listing::default();
    let top = list(path)?;
    let train = top.folders.get("train");
    let (classes, train_images) = match train {
        Some(train) => listing.split(Some("train"), train)?,
        None => {
            listing.ignored += top.other;
            listing.classes(None, path, top.folders.clone())?
        }
    };
    let mut splits = vec![SplitCounts {
        name: train.map(|_| "train"),
        images: train_images,
    }];
    if train.is_some() {
        let test = top.folders.get("test");
        if let Some(test) = test {
            splits.push(SplitCounts {
                name: Some("test"),
                images: listing.test(test, &classes)?,
            });
        }
        let used = 1 + usize::from(test.is_some());
        listing.ignored += top.other + (top.folders.len() - used) as u64;
    }
    listing.entries.sort_unstable();
    Ok(ImageFolder {
        classes,
        splits,
        bytes: listing.bytes,
        ignored: listing.ignored,
        entries: listing.entries,
    })
}

/// What has been found so far.
#[derive(Default)]
struct Listing {
    entries: Vec<Entry>,
    bytes: u64,
    ignored: u64,
}

impl Listing {
    /// The classes of a split folder with their numbers of images.
    fn split(&mut self, split: Option<&str>, folder: &Path) -> Result<(Vec<String>, Vec<u64>), Error> {
        let found = list(folder)?;
        self.ignored += found.other;
        self.classes(split, folder, found.folders)
    }

    fn classes(
        &mut self,
        split: Option<&str>,
        folder: &Path,
        classes: BTreeMap<String, PathBuf>,
    ) -> Result<(Vec<String>, Vec<u64>), Error> {
        if classes.len() < 2 {
            return Err(Error::TooFewClasses {
                path: folder.to_owned(),
                found: classes.len(),
            });
        }
        let images = classes
            .iter()
            .map(|(class, path)| self.class(split, class, path))
            .collect::<Result<_, _>>()?;
        Ok((classes.into_keys().collect(), images))
    }

    /// Images per class of `known`; a class may be absent from the test split.
    fn test(&mut self, folder: &Path, known: &[String]) -> Result<Vec<u64>, Error> {
        let found = list(folder)?;
        self.ignored += found.other;
        if let Some((_, path)) = found.folders.iter().find(|(class, _)| !known.contains(class)) {
            return Err(Error::UnknownTestClass {
                path: path.clone(),
                known: known.to_vec(),
            });
        }
        if found.folders.is_empty() {
            return Err(Error::TooFewClasses {
                path: folder.to_owned(),
                found: 0,
            });
        }
        let count = |class: &String| {
            found
                .folders
                .get(class)
                .map(|path| self.class(Some("test"), class, path))
        };
        known
            .iter()
            .map(count)
            .map(|images| images.unwrap_or(Ok(0)))
            .collect()
    }

    /// Takes in a class folder; returns its number of images.
    fn class(&mut self, split: Option<&str>, class: &str, folder: &Path) -> Result<u64, Error> {
        let found = list(folder)?;
        self.ignored += found.other + found.folders.len() as u64;
        for (file, path, bytes) in &found.images {
            let name = match split {
                Some(split) => format!("{split}/{class}/{file}"),
                None => format!("{class}/{file}"),
            };
            self.entries.push(Entry {
                name,
                path: path.clone(),
            });
            self.bytes += bytes;
        }
        if found.images.is_empty() {
            return Err(Error::EmptyClass {
                path: folder.to_owned(),
            });
        }
        Ok(found.images.len() as u64)
    }
}

/// One folder's contents.
#[derive(Default)]
struct Contents {
    folders: BTreeMap<String, PathBuf>,
    /// Name, path, size in bytes.
    images: Vec<(String, PathBuf, u64)>,
    /// Files that are no images.
    other: u64,
}

fn list(folder: &Path) -> Result<Contents, Error> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let mut contents = Contents::default();
    for entry in std::fs::read_dir(folder).map_err(refused(folder))? {
        let path = entry.map_err(refused(folder))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Error::Name { path: path.clone() })?;
        if name.starts_with('.') {
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(refused(&path))?;
        if metadata.is_dir() {
            contents.folders.insert(name.to_owned(), path);
        } else if metadata.is_file() && is_image(&path) {
            contents.images.push((name.to_owned(), path, metadata.len()));
        } else {
            contents.other += 1;
        }
    }
    Ok(contents)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| {
        IMAGE_EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(found))
    })
}
