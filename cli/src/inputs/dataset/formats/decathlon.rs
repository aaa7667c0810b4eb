//! The layout of the Visual Decathlon: `annotations/<set>_train.json`, `<set>_val.json` and `<set>_test_stripped.json` in
//! COCO's style, which name image files relative to the folder above.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nettailor_domain::archive::Folder;
use nettailor_domain::task::DataFormat;
use serde::Deserialize;

use super::super::error::{At, some};
use super::super::{Error, Files, Image, Listing};
use super::manifest::Named;

/// Folder of the annotations.
pub(in super::super) const ANNOTATIONS: &str = "annotations";
const TRAIN: &str = "_train.json";

/// A file of annotations; what else COCO has in it does not matter here.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Annotations {
    images: Vec<ImageFile>,
    /// Absent where the labels are kept secret.
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Debug, Deserialize)]
struct ImageFile {
    id: i64,
    file_name: String,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    image_id: i64,
    category_id: i64,
}

#[derive(Debug, Deserialize)]
struct Category {
    id: i64,
    name: String,
}

impl Annotations {
    /// Reads a file of annotations.
    pub(in super::super) fn parse(path: &Path, text: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(text).map_err(|error| {
            let expected = "JSON with `images` (`id`, `file_name`), `annotations` (`image_id`, `category_id`) and \
                            `categories` (`id`, `name`)";
            Error::content(path, At::Whole, expected, format!("something else: {error}"))
        })
    }

    /// The files that it names.
    pub(in super::super) fn files(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| image.file_name.as_str())
    }
}

/// Names of the data sets that have training annotations in the folder of annotations under `root`.
pub(in super::super) fn sets(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(ANNOTATIONS))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let sets: BTreeSet<String> = names
        .filter_map(|name| name.strip_suffix(TRAIN).map(str::to_owned))
        .collect();
    sets.into_iter().collect()
}

/// The files of a set, beside the one of its training images: those of the val and of the test split, the first that
/// there is of each.
pub(in super::super) fn companions(set: &str) -> [(Folder, Vec<String>); 2] {
    let names = |parts: &[&str]| parts.iter().map(|part| format!("{set}_{part}.json")).collect();
    [
        (Folder::Val, names(&["val"])),
        (Folder::Test, names(&["test", "test_stripped"])),
    ]
}

/// The set whose training annotations a file of this name holds.
pub(in super::super) fn set_of(file: &str) -> Option<&str> {
    file.strip_suffix(TRAIN)
}

/// Lists the images that the annotations under `path` name: the folder above them, or the file of one set's training
/// annotations.
pub(super) fn list(path: &Path) -> Result<Listing, Error> {
    let (root, set) = find(path)?;
    let annotations = root.join(ANNOTATIONS);
    let mut listed = Listed::new(&annotations.join(format!("{set}{TRAIN}")))?;
    let mut notes = Vec::new();
    for (folder, names) in companions(&set) {
        let Some(file) = names
            .iter()
            .map(|name| annotations.join(name))
            .find(|file| file.is_file())
        else {
            continue;
        };
        let split = read(&file)?;
        if split.annotations.is_empty() {
            let name = folder.name().unwrap_or_default();
            notes.push(format!(
                "{} has no labels: a part of the training images becomes the {name} split",
                file.display()
            ));
        } else {
            listed.split(folder, &file, &split)?;
        }
    }
    let (files, bytes) = listed.named.files(&root)?;
    Ok(Listing {
        classes: listed.classes,
        images: listed.images,
        source: Arc::new(Files(files)),
        bytes,
        ignored: 0,
        notes,
    })
}

/// The root folder, and the name of the set.
fn find(path: &Path) -> Result<(PathBuf, String), Error> {
    let layout = |missing| Error::Layout {
        path: path.to_owned(),
        format: DataFormat::Decathlon,
        missing,
    };
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let set = set_of(&name).filter(|_| path.parent().is_some_and(|folder| folder.ends_with(ANNOTATIONS)));
        let root = path.parent().and_then(Path::parent);
        return match (root, set) {
            (Some(root), Some(set)) => Ok((root.to_owned(), set.to_owned())),
            _ => Err(layout(format!("expected a file {ANNOTATIONS}/<set>{TRAIN}"))),
        };
    }
    let mut sets = sets(path);
    match sets.len() {
        0 => Err(layout(format!("expected {ANNOTATIONS}/<set>{TRAIN} in it"))),
        1 => Ok((path.to_owned(), sets.remove(0))),
        _ => Err(layout(format!(
            "found several, {}; give the path of one: {ANNOTATIONS}/{}{TRAIN}",
            some(&sets),
            sets[0]
        ))),
    }
}

fn read(path: &Path) -> Result<Annotations, Error> {
    Annotations::parse(path, &std::fs::read(path).map_err(Error::read(path))?)
}

/// What the annotations of a set say.
struct Listed {
    classes: Vec<String>,
    /// Index of a category in `classes`.
    label_of: HashMap<i64, usize>,
    images: Vec<Image>,
    named: Named,
}

impl Listed {
    fn new(path: &Path) -> Result<Self, Error> {
        let mut train = read(path)?;
        train.categories.sort_by_key(|category| category.id);
        let mut label_of = HashMap::new();
        for (label, category) in train.categories.iter().enumerate() {
            if label_of.insert(category.id, label).is_some() {
                let found = format!("{} twice", category.id);
                let at = At::Key("categories".to_owned());
                return Err(Error::content(
                    path,
                    at,
                    "an id of its own for every category",
                    found,
                ));
            }
        }
        let mut listed = Self {
            classes: train
                .categories
                .iter()
                .map(|category| category.name.clone())
                .collect(),
            label_of,
            images: vec![],
            named: Named::new(path),
        };
        listed.split(Folder::Train, path, &train)?;
        Ok(listed)
    }

    /// A category's number must mean the same in every file.
    fn same_categories(&self, path: &Path, categories: &[Category]) -> Result<(), Error> {
        for (number, Category { id, name }) in categories.iter().enumerate() {
            let trained = self.label_of.get(id).map(|&label| &self.classes[label]);
            if trained != Some(name) {
                let trained = trained.map_or("no such category".to_owned(), |trained| format!("`{trained}`"));
                let expected = format!("what category {id} is in the training annotations: {trained}");
                let at = At::Key(format!("categories[{number}]"));
                return Err(Error::content(path, at, expected, format!("`{name}`")));
            }
        }
        Ok(())
    }

    /// Takes in the images of a split.
    fn split(&mut self, folder: Folder, path: &Path, split: &Annotations) -> Result<(), Error> {
        self.same_categories(path, &split.categories)?;
        let known: BTreeSet<i64> = split.images.iter().map(|image| image.id).collect();
        let mut categories: HashMap<i64, i64> = HashMap::new();
        for (number, annotation) in split.annotations.iter().enumerate() {
            let at = |key: &str| At::Key(format!("annotations[{number}].{key}"));
            let (image, category) = (annotation.image_id, annotation.category_id);
            if !known.contains(&image) {
                let expected = "the id of one of `images`";
                return Err(Error::content(path, at("image_id"), expected, image.to_string()));
            }
            if !self.label_of.contains_key(&category) {
                let expected = "the id of one of the training `categories`";
                return Err(Error::content(
                    path,
                    at("category_id"),
                    expected,
                    category.to_string(),
                ));
            }
            if categories.insert(image, category).is_some() {
                let expected = "one annotation for each image (classification, not detection)";
                return Err(Error::content(
                    path,
                    at("image_id"),
                    expected,
                    format!("{image} again"),
                ));
            }
        }
        for (number, image) in split.images.iter().enumerate() {
            let at = At::Key(format!("images[{number}]"));
            let label = categories
                .get(&image.id)
                .and_then(|category| self.label_of.get(category));
            let label = *label.ok_or_else(|| {
                let expected = format!("an annotation of image {}", image.id);
                Error::content(path, at.clone(), expected, "none")
            })?;
            let file = self.named.add(path, at, &image.file_name)?;
            self.images.push(Image { folder, label, file });
        }
        Ok(())
    }
}
