//! Whole data sets: opened, split, read in batches.

mod packing;
mod passes;
mod sharing;
mod splitting;

use std::collections::HashSet;
use std::path::PathBuf;

use nettailor_domain::ids::Digest;
use nettailor_domain::task::DataSettings;
use tempfile::TempDir;

use super::{Dataset, Error, Split, testing};

/// An archive with a cache folder beside it.
struct Case {
    folder: TempDir,
    data: Digest,
    classes: Vec<String>,
}

impl Case {
    fn new(classes: usize, train: usize, test: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let (data, classes) = testing::archive(&folder.path().join("data.tar"), classes, train, test, 12);
        Self {
            folder,
            data,
            classes,
        }
    }

    /// An archive of these entries; the classes are `a` and `b`.
    fn of(entries: &[(&str, &[u8])]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        entries
            .iter()
            .for_each(|(name, content)| testing::add(&mut tar, name, content));
        let data = testing::finish(tar, &folder.path().join("data.tar"));
        Self {
            folder,
            data,
            classes: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("data.tar")
    }

    fn open_with(
        &self,
        reading: &DataSettings,
        seed: u64,
        report: &mut dyn FnMut(&str),
    ) -> Result<Dataset, Error> {
        Dataset::open(
            &self.archive(),
            self.data,
            reading,
            &self.classes,
            seed,
            self.folder.path(),
            report,
        )
    }

    fn open(&self, reading: &DataSettings, seed: u64) -> Result<Dataset, Error> {
        self.open_with(reading, seed, &mut |_| {})
    }
}

/// Settings with everything at its default but for `changes`.
fn reading(changes: serde_json::Value) -> DataSettings {
    let mut settings = serde_json::json!({ "path": "", "image_size": 16 });
    settings
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

fn plain() -> DataSettings {
    reading(serde_json::json!({}))
}

/// Names of a split's images.
fn names(dataset: &Dataset, split: Split) -> HashSet<String> {
    let samples = &dataset.shared.packed.index().samples;
    dataset
        .shared
        .members(split)
        .iter()
        .map(|&index| samples[index].name.clone())
        .collect()
}

/// A grey image of 4 x 4 pixels, as a file.
fn pgm(grey: u8) -> Vec<u8> {
    [b"P5\n4 4\n255\n".as_slice(), &[grey; 16]].concat()
}
