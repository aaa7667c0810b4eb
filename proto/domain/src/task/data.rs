//! The labelled images of a task and how they reach the network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use crate::backbone::Normalisation;

/// The labelled images of a task and how they reach the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Folder or file, relative to the tasks file, or a URL: `file://`, `s3://`, `gs://`, `az://`, `http(s)://`.
    #[schemars(length(min = 1))]
    pub path: String,
    /// How the images lie there.
    #[serde(default)]
    pub format: DataFormat,
    /// Side of the square network input, in pixels.
    #[serde(default = "defaults::image_size")]
    #[schemars(range(min = 16, max = 1024))]
    pub image_size: u32,
    /// Share of the training images held out to choose the network by, where the data have no `val` split of their own.
    #[serde(default = "defaults::held_out")]
    #[schemars(range(min = 0.01, max = 0.9))]
    pub held_out: f64,
    /// Share of the training images set aside as the test split, where the data have no `test` split of their own.
    #[serde(default = "defaults::held_out")]
    #[schemars(range(min = 0.01, max = 0.9))]
    pub test: f64,
    /// What to do with images that cannot be read.
    #[serde(default)]
    pub on_unreadable: OnUnreadable,
    /// Random changes to training images.
    #[serde(default)]
    pub augment: AugmentSettings,
    /// Input normalisation; the backbone's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalisation>,
}

impl DataSettings {
    /// What of them changes the images that reach the network: content names the data, not where and how they lie.
    pub fn reading(&self) -> Self {
        Self {
            path: String::new(),
            format: DataFormat::Auto,
            ..self.clone()
        }
    }
}

/// How labelled images lie on a disk or in an object store. The trainer never sees it: data travel in one form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// Whichever of the others is recognised there.
    #[default]
    Auto,
    /// `train/<class>/*`, `val/<class>/*`, `test/<class>/*`, or `<class>/*` alone.
    Folder,
    /// Visual Decathlon: `annotations/<set>_train.json` and so on, in COCO's style.
    Decathlon,
    /// CIFAR-10, binary version.
    Cifar10,
    /// CIFAR-100, binary version (fine labels).
    Cifar100,
    /// MNIST and its kin: idx files, gzipped or not.
    Mnist,
    /// `train-*.parquet`, `test-*.parquet` with encoded images in a column.
    Parquet,
    /// A table with the columns `path`, `label` and perhaps `split`.
    Csv,
}

impl DataFormat {
    /// Every format but `auto`, in the order in which they are looked for.
    pub const ALL: [Self; 7] = [
        Self::Folder,
        Self::Decathlon,
        Self::Cifar10,
        Self::Cifar100,
        Self::Mnist,
        Self::Parquet,
        Self::Csv,
    ];

    /// As written in a tasks file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Folder => "folder",
            Self::Decathlon => "decathlon",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Mnist => "mnist",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// What to do with images that cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnreadable {
    /// Fail the job and name them.
    #[default]
    Fail,
    /// Leave them out, count them and name them in the log.
    Skip,
}

/// Random changes to training images, drawn per (seed, epoch, sample). Evaluation resizes and does nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentSettings {
    /// Pad by this many pixels (reflected) on every side and cut a random square of the input size.
    #[schemars(range(max = 256))]
    pub crop_padding: u32,
    /// Cut a random rectangle of this share of the area (least, most) and aspect ratio 3/4 to 4/3, resized to the input size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resized_crop: Option<[f32; 2]>,
    /// Mirror half of the images.
    pub horizontal_flip: bool,
    /// Scale brightness, contrast and saturation each by a factor of 1 +- this.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub color_jitter: f32,
}
