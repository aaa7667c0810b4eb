//! Image folders: `train/<class>/*`, `val/<class>/*` and `test/<class>/*`, or `<class>/*` alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nettailor_domain::archive::{EntryName, Folder};

use super::super::error::At;
use super::super::{Error, Files, Image, Listing};

/// What is looked for.
pub(in super::super) const LAYOUT: &str = "`train/<class>/<image>` and perhaps `val/<class>/<image>` and \
    `test/<class>/<image>`, or `<class>/<image>` alone";

/// Whether there is a `train` folder.
pub(in super::super) fn has_splits(path: &Path) -> bool {
    path.join("train").is_dir()
}

/// Whether there are folders that hold images.
pub(in super::super) fn has_classes(path: &Path) -> bool {
    let holds_images = |folder: &PathBuf| list_folder(folder).is_ok_and(|found| !found.images.is_empty());
    list_folder(path).is_ok_and(|top| top.folders.values().any(holds_images))
}

/// Lists the images under `path`. Links are followed; names that start with a dot are passed over without a word.
pub(super) fn list(path: &Path) -> Result<Listing, Error> {
    let mut found = Found::default();
    let top = list_folder(path)?;
    found.ignored += top.other;
    let mut splits = BTreeMap::new();
    if top.folders.contains_key("train") {
        for (name, folder) in &top.folders {
            match Folder::of_split(name) {
                None => found.ignored += 1,
                Some(split) => {
                    if splits.insert(split, folder).is_some() {
                        let expected =
                            format!("one folder for the split `{}`", split.name().unwrap_or_default());
                        return Err(Error::content(path, At::Whole, expected, "more than one"));
                    }
                }
            }
        }
    }
    let classes = match splits.remove(&Folder::Train) {
        None => found.trained(Folder::Class, path, &top.folders)?,
        Some(train) => {
            let inside = list_folder(train)?;
            found.ignored += inside.other;
            found.trained(Folder::Train, train, &inside.folders)?
        }
    };
    for (split, folder) in splits {
        found.measured(split, folder, &classes)?;
    }
    found.images.sort_unstable();
    let (images, files) = found
        .images
        .into_iter()
        .map(|(_, image, path)| (image.into(), path))
        .unzip();
    Ok(Listing {
        classes,
        images,
        source: Arc::new(Files(files)),
        bytes: found.bytes,
        ignored: found.ignored,
        notes: vec![],
    })
}

/// An image in the order of the archive's names.
type Sorted = (String, Labelled, PathBuf);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labelled(Folder, usize, String);

impl From<Labelled> for Image {
    fn from(Labelled(folder, label, file): Labelled) -> Self {
        Self { folder, label, file }
    }
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    images: Vec<Sorted>,
    bytes: u64,
    ignored: u64,
}

impl Found {
    /// Takes in the folders of classes to train on; returns their names.
    fn trained(
        &mut self,
        split: Folder,
        folder: &Path,
        classes: &BTreeMap<String, PathBuf>,
    ) -> Result<Vec<String>, Error> {
        if classes.len() < 2 {
            return Err(Error::TooFewClasses {
                path: folder.to_owned(),
                found: classes.len(),
            });
        }
        for (label, (class, path)) in classes.iter().enumerate() {
            self.class(split, label, class, path)?;
        }
        Ok(classes.keys().cloned().collect())
    }

    /// Takes in a split to measure on; a class may be absent from it.
    fn measured(&mut self, split: Folder, folder: &Path, known: &[String]) -> Result<(), Error> {
        let found = list_folder(folder)?;
        self.ignored += found.other;
        if found.folders.is_empty() {
            return Err(Error::Layout {
                path: folder.to_owned(),
                format: nettailor_domain::task::DataFormat::Folder,
                missing: "expected a folder for each class in it, found none".to_owned(),
            });
        }
        for (class, path) in &found.folders {
            let label = known.binary_search(class).map_err(|_| Error::UnknownClass {
                path: path.clone(),
                known: known.to_vec(),
            })?;
            self.class(split, label, class, path)?;
        }
        Ok(())
    }

    /// Takes in a class folder.
    fn class(&mut self, split: Folder, label: usize, class: &str, folder: &Path) -> Result<(), Error> {
        let found = list_folder(folder)?;
        self.ignored += found.other + found.folders.len() as u64;
        if found.images.is_empty() {
            return Err(Error::EmptyClass {
                path: folder.to_owned(),
            });
        }
        for (file, path, bytes) in found.images {
            let name = EntryName {
                folder: split,
                class: class.to_owned(),
                file,
            };
            let sorted_by = name.to_string();
            self.images
                .push((sorted_by, Labelled(split, label, name.file), path));
            self.bytes += bytes;
        }
        Ok(())
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

fn list_folder(folder: &Path) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Error::Name { path: path.clone() })?;
        if name.starts_with('.') {
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(Error::read(&path))?;
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
        nettailor_images::EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(found))
    })
}
