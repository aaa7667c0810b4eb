//! Reading a tasks file and everything it names, and telling every mistake at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nettailor_domain::archive::Folder;
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::TaskName;
use nettailor_domain::stage::Artifact;
use nettailor_domain::task::{
    DataFormat, DataInput, DataSettings, Search, SourceSettings, TaskSpec, Workers,
};
use nettailor_domain::taskfile::TasksFile;
use serde::Serialize;

use super::{Blob, Error, cache};
use crate::ambient;
use crate::inputs::dataset::{self, DataSet};
use crate::inputs::weights;
use crate::output::{Column, Console, Row};
use crate::quantity::{bytes, plural};

/// A tasks file without mistakes.
#[derive(Debug)]
pub(crate) struct Checked {
    path: PathBuf,
    text: String,
    file: TasksFile,
    weights: Option<Weights>,
    data: BTreeMap<Place, DataSet>,
}

/// Data as a task names them: path and format as written.
type Place = (String, DataFormat);

fn place(data: &DataSettings) -> Place {
    (data.path.clone(), data.format)
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
    /// What the backbone is pre-trained on.
    pub(super) source: Option<DataInput>,
    pub(super) blobs: Vec<Blob>,
}

/// Reads the tasks file at `path`; looks into all data and the weights file that it names.
pub(super) fn check(path: &Path, console: &Console) -> Result<Checked, Error> {
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
    let mut data = BTreeMap::new();
    let source = file.backbone.source.iter().map(|source| &source.data);
    let all = source.chain(file.tasks.iter().map(|task| &task.data));
    for place in all.map(place).collect::<BTreeSet<_>>() {
        match dataset::open(base, &place.0, place.1, console) {
            Ok(opened) => {
                for note in &opened.notes {
                    console.note(format_args!("{}: {note}", place.0));
                }
                data.insert(place, opened);
            }
            Err(error) => problems.push(chain(&error)),
        }
    }
    if problems.is_empty() {
        Ok(Checked {
            path: path.to_owned(),
            text,
            file,
            weights,
            data,
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
        let images = &self.data[&place(data)];
        Some(format!(
            "{} is pre-trained on {} first: {} ({}), {} classes, {}",
            self.arch(),
            data.path,
            plural(images.images(), "image"),
            bytes(images.bytes),
            images.classes.len(),
            plural(training.epochs, "epoch"),
        ))
    }

    /// What was found, per task.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        let layers = self.arch().describe().layers();
        let summary = |task: &TaskSpec| {
            let data = &self.data[&place(&task.data)];
            let set_apart = |folder| Some(data.count(folder)).filter(|&count| count > 0);
            Summary {
                task: task.name.to_string(),
                backbone: self.arch().to_string(),
                data: task.data.path.clone(),
                format: data.format,
                classes: data.classes.to_vec(),
                images: data.count(Folder::Train) + data.count(Folder::Class),
                val_images: set_apart(Folder::Val),
                test_images: set_apart(Folder::Test),
                bytes: data.bytes,
                ignored_files: data.ignored,
                image_size: task.data.image_size,
                candidates: task.candidates.ladder(layers),
                search: task.candidates.search,
                workers: task.workers,
                source: self.source().map(|source| source.data.path.clone()),
            }
        };
        self.file.tasks.iter().map(summary).collect()
    }

    /// Reads all images to name the data sets by their contents.
    pub(super) fn name_data(self) -> Result<Named, Error> {
        let mut artifacts = BTreeMap::new();
        let mut problems = Vec::new();
        for (place, data) in &self.data {
            match data.measure() {
                Ok(artifact) => {
                    artifacts.insert(place, artifact);
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
        let input = |settings: &DataSettings| {
            let place = place(settings);
            DataInput {
                archive: artifacts[&place].digest,
                classes: self.data[&place].classes.to_vec(),
            }
        };
        let tasks = self.file.tasks.iter();
        let tasks = tasks.map(|task| (task.name.clone(), input(&task.data))).collect();
        let source = self.source().map(|source| input(&source.data));
        let blob = |(place, data): (&Place, &DataSet)| {
            Blob::data(
                format!("the images of {}", place.0),
                artifacts[place],
                data.clone(),
            )
        };
        let blobs = self.data.iter().map(blob).collect();
        Ok(Named {
            text: self.text,
            tasks,
            source,
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
    /// Where the images are, as written.
    pub(crate) data: String,
    /// How they lie there.
    pub(crate) format: DataFormat,
    pub(crate) classes: Vec<String>,
    /// Images outside `val` and `test`.
    pub(crate) images: u64,
    /// Images of `val`; null where a part of `images` will be held out.
    pub(crate) val_images: Option<u64>,
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
    /// How many workers train a stage together: a number, or a range like `2..4`.
    pub(crate) workers: Workers,
    /// Folder of the images that the backbone is pre-trained on, as written; null where it has weights.
    pub(crate) source: Option<String>,
}

impl Row for Summary {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("TASK", |task| task.task.clone()),
        Column::new("BACKBONE", |task| task.backbone.clone()),
        Column::number("CLASSES", |task| task.classes.len().to_string()),
        Column::number("IMAGES", |task| task.images.to_string()),
        Column::number("HELD OUT", |task| a_part(task.val_images)),
        Column::number("TEST IMAGES", |task| a_part(task.test_images)),
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
        Column::number("WORKERS", |task: &Self| task.workers.to_string()).wide(),
        Column::new("DATA", |task: &Self| task.data.clone()).wide(),
        Column::new("SOURCE", |task: &Self| {
            task.source.clone().unwrap_or_else(|| "-".to_owned())
        })
        .wide(),
        Column::new("FORMAT", |task: &Self| task.format.as_str().to_owned()).wide(),
        Column::number("IGNORED FILES", |task: &Self| task.ignored_files.to_string()).wide(),
    ];

    fn name(&self) -> String {
        self.task.clone()
    }
}

/// A number of images of a split, or that the split will be a part of the training images.
fn a_part(images: Option<u64>) -> String {
    images.map_or_else(|| "a part".to_owned(), |count| count.to_string())
}
