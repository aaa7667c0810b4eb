//! Reading a tasks file and everything it names, and telling every mistake at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::TaskName;
use nettailor_domain::stage::Artifact;
use nettailor_domain::task::{DataInput, Search, SourceSettings};
use nettailor_domain::taskfile::TasksFile;
use serde::Serialize;

use super::{Blob, Error, cache};
use crate::ambient;
use crate::inputs::dataset::{self, ImageFolder};
use crate::inputs::weights;
use crate::output::{Column, Row};
use crate::quantity::{bytes, plural};

/// A tasks file without mistakes.
#[derive(Debug)]
pub(crate) struct Checked {
    path: PathBuf,
    text: String,
    file: TasksFile,
    weights: Option<Weights>,
    /// By the path as written in the file.
    folders: BTreeMap<String, ImageFolder>,
}

/// A backbone's weights file.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    path: PathBuf,
    arch: BackboneName,
    /// What it becomes when it is imported.
    pub(crate) artifact: Artifact,
}

/// A tasks file whose data have names.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) text: String,
    /// Each task with its data.
    pub(super) tasks: Vec<(TaskName, DataInput)>,
    /// Every data set by the path as written in the file.
    pub(super) data: BTreeMap<String, DataInput>,
    pub(super) blobs: Vec<Blob>,
}

/// Reads the tasks file at `path`; looks into every folder and the weights file that it names.
pub(super) fn check(path: &Path) -> Result<Checked, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let invalid = |problems| Error::Invalid {
        path: path.to_owned(),
        problems,
    };
    let file = TasksFile::parse(&text).map_err(|problems| invalid(listed(path, &problems)))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    let weights = file.backbone.weights.as_ref().and_then(|name| {
        let read = Weights::of(&base.join(name), file.backbone.arch);
        read.map_err(|error| problems.push(chain(&error))).ok()
    });
    let mut folders = BTreeMap::new();
    let source = file.backbone.source.iter().map(|source| &source.data);
    for data in source.chain(file.tasks.iter().map(|task| &task.data)) {
        if !folders.contains_key(&data.path) {
            let scanned = dataset::scan(&base.join(&data.path));
            let folder = scanned.map_err(|error| problems.push(chain(&error))).ok();
            folders.insert(data.path.clone(), folder);
        }
    }
    let folders = folders
        .into_iter()
        .filter_map(|(name, folder)| Some((name, folder?)))
        .collect();
    if problems.is_empty() {
        Ok(Checked {
            path: path.to_owned(),
            text,
            file,
            weights,
            folders,
        })
    } else {
        Err(invalid(problems))
    }
}

/// `tasks.yaml:2:11: ...` for each mistake.
fn listed(path: &Path, problems: &nettailor_domain::taskfile::Problems) -> Vec<String> {
    problems
        .iter()
        .map(|problem| format!("{}:{problem}", path.display()))
        .collect()
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Checked {
    /// The backbone that the tasks share.
    pub(crate) fn arch(&self) -> BackboneName {
        self.file.backbone.arch
    }

    /// Its weights, where the file names them.
    pub(crate) fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// How the backbone is pre-trained, where the file has a source for it.
    pub(crate) fn source(&self) -> Option<&SourceSettings> {
        self.file.backbone.source.as_ref()
    }

    /// What is done about the backbone before anything else, in a line.
    pub(crate) fn source_line(&self) -> Option<String> {
        let SourceSettings { data, training, .. } = self.source()?;
        let folder = &self.folders[&data.path];
        Some(format!(
            "{} is pre-trained on {} first: {} ({}), {} classes, {}",
            self.arch(),
            data.path,
            plural(folder.images(), "image"),
            bytes(folder.bytes),
            folder.classes.len(),
            plural(training.epochs, "epoch"),
        ))
    }

    /// What was found, per task.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        let layers = self.arch().describe().layers();
        let summary = |task: &nettailor_domain::task::TaskSpec| {
            let folder = &self.folders[&task.data.path];
            let images = |test: bool| {
                let splits = folder
                    .splits
                    .iter()
                    .filter(|split| (split.name == Some("test")) == test);
                splits.map(dataset::SplitCounts::total).sum()
            };
            Summary {
                task: task.name.to_string(),
                backbone: self.arch().to_string(),
                data: task.data.path.clone(),
                classes: folder.classes.clone(),
                images: images(false),
                test_images: Some(images(true)).filter(|&count| count > 0),
                bytes: folder.bytes,
                ignored_files: folder.ignored,
                image_size: task.data.image_size,
                candidates: task.candidates.ladder(layers),
                search: task.candidates.search,
                source: self.source().map(|source| source.data.path.clone()),
            }
        };
        self.file.tasks.iter().map(summary).collect()
    }

    /// Reads all images to name the data sets by their contents.
    pub(super) fn name_data(self) -> Result<Named, Error> {
        let mut artifacts = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, folder) in &self.folders {
            match folder.measure() {
                Ok(artifact) => {
                    artifacts.insert(name, artifact);
                }
                Err(error) => problems.push(chain(&error)),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Invalid {
                path: self.path,
                problems,
            });
        }
        let data = self.folders.iter().map(|(path, folder)| {
            let input = DataInput {
                archive: artifacts[path].digest,
                classes: folder.classes.clone(),
            };
            (path.clone(), input)
        });
        let data: BTreeMap<String, DataInput> = data.collect();
        let tasks = self.file.tasks.iter();
        let tasks = tasks.map(|task| (task.name.clone(), data[&task.data.path].clone()));
        let tasks = tasks.collect();
        let blob = |(name, folder): (&String, &ImageFolder)| {
            Blob::folder(format!("the images of {name}"), artifacts[name], folder.clone())
        };
        let blobs = self.folders.iter().map(blob).collect();
        Ok(Named {
            text: self.text,
            tasks,
            data,
            blobs,
        })
    }
}

impl Weights {
    /// Reads the weights file at `path` and checks that it is `arch`; quick if it was read before.
    pub(crate) fn of(path: &Path, arch: BackboneName) -> Result<Self, weights::Error> {
        let entry = ambient::cache_dir().and_then(|folder| cache::Entry::of(&folder, path, arch));
        let artifact = match entry.as_ref().and_then(cache::Entry::read) {
            Some(artifact) => artifact,
            None => {
                let imported = weights::import(path, arch)?;
                let (tensors, elements) = (imported.tensors, imported.elements);
                tracing::info!(file = %path.display(), tensors, elements, "weights imported");
                let artifact = Artifact {
                    digest: imported.digest,
                    bytes: imported.bytes.len() as u64,
                };
                if let Some(entry) = entry {
                    entry.write(&artifact);
                }
                artifact
            }
        };
        Ok(Self {
            path: path.to_owned(),
            arch,
            artifact,
        })
    }

    /// The weights, to be uploaded.
    pub(crate) fn blob(&self) -> Blob {
        let what = format!("the weights of {}", self.path.display());
        Blob::weights(what, self.artifact, self.path.clone(), self.arch)
    }
}

/// One task of a valid tasks file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) task: String,
    pub(crate) backbone: String,
    /// Folder of the images, as written.
    pub(crate) data: String,
    pub(crate) classes: Vec<String>,
    /// Images outside `test`.
    pub(crate) images: u64,
    /// Images of `test`; null where a part of `images` will be set aside.
    pub(crate) test_images: Option<u64>,
    pub(crate) bytes: u64,
    /// Files that are no images or not where images are looked for.
    pub(crate) ignored_files: u64,
    /// Side of the square input, pixels.
    pub(crate) image_size: u32,
    /// Numbers of blocks that will be removed for trial.
    pub(crate) candidates: Vec<usize>,
    /// How the best of them is found.
    pub(crate) search: Search,
    /// Folder of the images that the backbone is pre-trained on, as written; null where it has weights.
    pub(crate) source: Option<String>,
}

impl Row for Summary {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("TASK", |task| task.task.clone()),
        Column::new("BACKBONE", |task| task.backbone.clone()),
        Column::number("CLASSES", |task| task.classes.len().to_string()),
        Column::number("IMAGES", |task| task.images.to_string()),
        Column::number("TEST IMAGES", |task| {
            task.test_images
                .map_or_else(|| "a part".to_owned(), |count| count.to_string())
        }),
        Column::number("SIZE", |task| bytes(task.bytes)),
        Column::number("INPUT", |task| format!("{0}x{0}", task.image_size)),
        Column::new("CANDIDATES", |task| {
            let ladder: Vec<String> = task.candidates.iter().map(ToString::to_string).collect();
            let search = match task.search {
                Search::Exhaustive => "",
                Search::Halving => ", halving",
            };
            format!("k = {}{search}", ladder.join(", "))
        }),
        Column::new("DATA", |task: &Self| task.data.clone()).wide(),
        Column::new("SOURCE", |task: &Self| {
            task.source.clone().unwrap_or_else(|| "-".to_owned())
        })
        .wide(),
        Column::number("IGNORED FILES", |task: &Self| task.ignored_files.to_string()).wide(),
    ];

    fn name(&self) -> String {
        self.task.clone()
    }
}
