//! What the registry keeps, and how it is asked.

use serde::{Deserialize, Serialize};

use crate::architecture::{Architecture, Counts, Selection};
use crate::backbone::BackboneName;
use crate::ids::{Digest, JobId, StageKey, TaskName};
use crate::stage::{Artifact, FrontierPoint, Latency};
use crate::units::Accuracy;

/// A published tailored network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Its task.
    pub task: TaskName,
    /// 1 for the task's first model.
    pub version: u32,
    /// Kept blocks and their attention.
    pub architecture: Architecture,
    /// What it costs.
    pub counts: Counts,
    /// Side of the square input.
    pub image_size: u32,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// How it was chosen.
    pub selection: Selection,
    /// Accuracies of the teacher and of the network.
    pub accuracy: ModelAccuracy,
    /// Every candidate that was trained, by ascending k.
    pub frontier: Vec<FrontierPoint>,
    /// How long a forward pass takes on the worker that measured it.
    pub latency: ModelLatency,
    /// The task's own tensors.
    pub weights: Artifact,
    /// The fine-tuned backbone it was tailored from.
    pub teacher: Artifact,
    /// Where it comes from.
    pub lineage: Lineage,
    /// When it was published, milliseconds since 1970.
    pub published_ms: u64,
}

/// Held-out and test accuracy of a network and of its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelAccuracy {
    /// The network, held-out split (it was chosen by this).
    pub held_out: Accuracy,
    /// The network, test split, measured once.
    pub test: Accuracy,
    /// The teacher, held-out split.
    pub teacher_held_out: Accuracy,
    /// The teacher, test split.
    pub teacher_test: Accuracy,
}

/// Latency of a network and of its teacher, both in deployed form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelLatency {
    /// The network.
    pub network: Latency,
    /// The teacher.
    pub teacher: Latency,
}

impl ModelRecord {
    /// Names what was learned and how it was chosen: blake3 over task, architecture, counts, image size, classes,
    /// selection, accuracies, frontier, and the digests of weights, teacher, backbone, data and stages. Version, job,
    /// times and latencies are no part of it, so runs with the same seed, machine and threads have equal digests.
    pub fn digest(&self) -> Digest {
        let learned = serde_json::json!({
            "task": self.task,
            "architecture": self.architecture,
            "counts": self.counts,
            "image_size": self.image_size,
            "classes": self.classes,
            "selection": self.selection,
            "accuracy": self.accuracy,
            "frontier": self.frontier,
            "weights": self.weights.digest,
            "teacher": self.teacher.digest,
            "backbone": self.lineage.backbone,
            "data": self.lineage.data,
            "stages": self.lineage.stages,
        });
        Digest::of(learned.to_string().as_bytes())
    }
}

/// What a model was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The job that published it.
    pub job: JobId,
    /// Backbone weights: those that were submitted, or those that the source stage made.
    pub backbone: Digest,
    /// Data set archive.
    pub data: Digest,
    /// Its stages: source (if there was one), teacher, student, what left the chosen candidate, select.
    pub stages: Vec<StageKey>,
    /// Wall time of the stages that led to it (all candidates included), in seconds.
    pub training_seconds: u64,
}

/// A backbone whose weights were imported; it serves the tasks files that name no weights of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneRecord {
    /// Which network.
    pub arch: BackboneName,
    /// Its weights, safetensors under the publisher's names.
    pub weights: Artifact,
    /// The file they came from, for people.
    pub source: String,
    /// When it was imported, milliseconds since 1970.
    pub registered_ms: u64,
}

/// A question to the registry. Every bound given must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelQuery {
    /// Tasks whose name contains this.
    pub task: Option<String>,
    /// Least test accuracy, a fraction.
    pub min_accuracy: Option<f64>,
    /// Most active parameters.
    pub max_params: Option<u64>,
    /// Most active FLOPs.
    pub max_flops: Option<u64>,
    /// All versions, or only each task's newest.
    pub all_versions: bool,
    /// Order.
    pub sort: SortKey,
    /// Largest first.
    pub descending: bool,
    /// At most this many; all without.
    pub limit: Option<usize>,
}

/// What a listing is sorted by. Ties go by task name, then newest version first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    /// Task name.
    #[default]
    Task,
    /// Test accuracy.
    Accuracy,
    /// Active parameters.
    Params,
    /// Active FLOPs.
    Flops,
    /// Time of publication.
    Published,
}

impl ModelQuery {
    /// The models that answer the question, in its order.
    pub fn select<'a>(&self, models: impl IntoIterator<Item = &'a ModelRecord>) -> Vec<&'a ModelRecord> {
        let mut found: Vec<&ModelRecord> = models.into_iter().collect();
        found.sort_by(|a, b| a.task.cmp(&b.task).then(b.version.cmp(&a.version)));
        if !self.all_versions {
            found.dedup_by(|later, first| later.task == first.task);
        }
        found.retain(|model| self.matches(model));
        // Stable, so ties keep the order by task and version.
        found.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            if self.descending { order.reverse() } else { order }
        });
        found.truncate(self.limit.unwrap_or(usize::MAX));
        found
    }

    fn matches(&self, model: &ModelRecord) -> bool {
        self.task
            .as_ref()
            .is_none_or(|part| model.task.as_str().contains(part.as_str()))
            && self
                .min_accuracy
                .is_none_or(|least| model.accuracy.test.fraction() >= least)
            && self
                .max_params
                .is_none_or(|most| model.counts.active_params <= most)
            && self
                .max_flops
                .is_none_or(|most| model.counts.active_flops <= most)
    }
}

impl SortKey {
    fn compare(self, a: &ModelRecord, b: &ModelRecord) -> std::cmp::Ordering {
        match self {
            Self::Task => std::cmp::Ordering::Equal,
            Self::Accuracy => a.accuracy.test.fraction().total_cmp(&b.accuracy.test.fraction()),
            Self::Params => a.counts.active_params.cmp(&b.counts.active_params),
            Self::Flops => a.counts.active_flops.cmp(&b.counts.active_flops),
            Self::Published => a.published_ms.cmp(&b.published_ms),
        }
    }
}
