//! Published models.

use chrono::{DateTime, Utc};
use nettailor_domain::architecture::{Architecture, Candidate, Fate, Layer};
use nettailor_domain::model::ModelRecord;
use nettailor_domain::units::human;
use serde::Serialize;

use super::{AccuracyView, ArtifactView, LatencyView, PointView, frontier, short};
use crate::output::{Column, Detail, Row, Sheet, fields, table};
use crate::quantity::{bytes, milliseconds, moment, seconds, share, show_moment};

/// A tailored network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelView {
    pub(crate) task: String,
    pub(crate) version: u32,
    /// Names what was learned: equal for runs with the same seed, machine and threads.
    pub(crate) digest: String,
    /// The backbone's architecture.
    pub(crate) backbone: String,
    /// Side of the square input, pixels.
    pub(crate) image_size: u32,
    pub(crate) classes: Vec<String>,
    pub(crate) published: Option<DateTime<Utc>>,
    pub(crate) test: AccuracyView,
    pub(crate) held_out: AccuracyView,
    pub(crate) teacher_test: AccuracyView,
    pub(crate) teacher_held_out: AccuracyView,
    /// Stored for this task alone.
    pub(crate) task_params: u64,
    /// Touched by a forward pass.
    pub(crate) active_params: u64,
    /// Multiply-accumulates of one image.
    pub(crate) active_flops: u64,
    pub(crate) backbone_params: u64,
    pub(crate) backbone_flops: u64,
    pub(crate) latency: LatencyView,
    pub(crate) teacher_latency: LatencyView,
    /// Main blocks removed by rank.
    pub(crate) k: usize,
    /// Held-out accuracy that was asked for, a fraction.
    pub(crate) threshold: f64,
    /// Whether it reached the threshold.
    pub(crate) qualified: bool,
    pub(crate) blocks_kept: usize,
    pub(crate) blocks: usize,
    pub(crate) proxies_kept: usize,
    /// The task's own tensors.
    pub(crate) weights: ArtifactView,
    /// The fine-tuned backbone it was tailored from.
    pub(crate) teacher: ArtifactView,
    pub(crate) job: String,
    pub(crate) backbone_digest: String,
    pub(crate) data_digest: String,
    /// Source (if there was one), teacher, student, what left the chosen candidate, select.
    pub(crate) stage_keys: Vec<String>,
    /// Of all stages that led to it.
    pub(crate) training_seconds: u64,
    /// Every candidate that was trained, by ascending k.
    pub(crate) frontier: Vec<PointView>,
    /// Every block that could have been in the network. Absent in listings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) layers: Vec<LayerView>,
}

/// What merges into one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LayerView {
    /// Number of the node, from 1.
    pub(crate) node: usize,
    /// The main block first, then the proxies, nearest source first.
    pub(crate) blocks: Vec<BlockView>,
}

/// One block into a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BlockView {
    /// `main` or `proxy`.
    pub(crate) kind: &'static str,
    /// The node it reads.
    pub(crate) source: usize,
    /// Softmax over the kept blocks of the node; 0 for removed ones.
    pub(crate) attention: f64,
    /// `kept`, `removed_by_rank` or `removed_by_exclusion`.
    pub(crate) fate: Fate,
}

impl From<&ModelRecord> for ModelView {
    fn from(model: &ModelRecord) -> Self {
        let (accuracy, counts) = (model.accuracy, model.counts);
        Self {
            task: model.task.to_string(),
            version: model.version,
            digest: model.digest().to_string(),
            backbone: model.architecture.backbone.to_string(),
            image_size: model.image_size,
            classes: model.classes.clone(),
            published: moment(model.published_ms),
            test: accuracy.test.into(),
            held_out: accuracy.held_out.into(),
            teacher_test: accuracy.teacher_test.into(),
            teacher_held_out: accuracy.teacher_held_out.into(),
            task_params: counts.task_params,
            active_params: counts.active_params,
            active_flops: counts.active_flops,
            backbone_params: counts.backbone.params,
            backbone_flops: counts.backbone.flops,
            latency: model.latency.network.into(),
            teacher_latency: model.latency.teacher.into(),
            k: model.selection.k,
            threshold: model.selection.threshold,
            qualified: model.selection.qualified,
            blocks_kept: model.architecture.kept_mains().len(),
            blocks: model.architecture.layers.len(),
            proxies_kept: model.architecture.kept_proxies(),
            weights: model.weights.into(),
            teacher: model.teacher.into(),
            job: model.lineage.job.to_string(),
            backbone_digest: model.lineage.backbone.to_string(),
            data_digest: model.lineage.data.to_string(),
            stage_keys: model.lineage.stages.iter().map(ToString::to_string).collect(),
            training_seconds: model.lineage.training_seconds,
            frontier: frontier::points(model),
            layers: Vec::new(),
        }
    }
}

impl ModelView {
    /// With every block of the network.
    pub(crate) fn in_full(model: &ModelRecord) -> Self {
        Self {
            layers: layers(&model.architecture),
            ..model.into()
        }
    }

    /// `2.50 ms for 1 image (teacher 4.00 ms), 50.00 ms for 32 (teacher 80.00 ms)`.
    fn latencies(&self) -> String {
        let pair = |network, teacher, count: &str| {
            format!(
                "{} for {count} (teacher {})",
                milliseconds(network),
                milliseconds(teacher)
            )
        };
        let (network, teacher) = (self.latency, self.teacher_latency);
        format!(
            "{}, {}",
            pair(network.batch_1_ms, teacher.batch_1_ms, "1 image"),
            pair(network.batch_32_ms, teacher.batch_32_ms, "32")
        )
    }

    /// `9/16 + 5 proxies`.
    pub(crate) fn kept(&self) -> String {
        let word = if self.proxies_kept == 1 {
            "proxy"
        } else {
            "proxies"
        };
        format!(
            "{}/{} + {} {word}",
            self.blocks_kept, self.blocks, self.proxies_kept
        )
    }
}

fn layers(architecture: &Architecture) -> Vec<LayerView> {
    let block = |(position, (block, attention)): (usize, (&Candidate, f64))| BlockView {
        kind: if position == 0 { "main" } else { "proxy" },
        source: block.source,
        attention,
        fate: block.fate,
    };
    let layer = |(index, layer): (usize, &Layer)| LayerView {
        node: index + 1,
        blocks: layer
            .blocks
            .iter()
            .zip(layer.attention())
            .enumerate()
            .map(block)
            .collect(),
    };
    architecture.layers.iter().enumerate().map(layer).collect()
}

impl Row for ModelView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("MODEL", Self::name),
        Column::new("BACKBONE", |model| model.backbone.clone()),
        Column::number("TEST", |model| model.test.percent()),
        Column::number("TEACHER", |model| model.teacher_test.percent()),
        Column::number("PARAMS", |model| human(model.active_params)),
        Column::number("OF BACKBONE", |model| {
            share(model.active_params, model.backbone_params)
        }),
        Column::number("FLOPS", |model| human(model.active_flops)),
        Column::number("OF BACKBONE", |model| {
            share(model.active_flops, model.backbone_flops)
        }),
        Column::number("TASK PARAMS", |model| human(model.task_params)),
        Column::new("BLOCKS KEPT", Self::kept),
        Column::new("PUBLISHED", |model| show_moment(model.published)),
        Column::number("HELD OUT", |model: &Self| model.held_out.percent()).wide(),
        Column::number("TEACHER HELD OUT", |model: &Self| {
            model.teacher_held_out.percent()
        })
        .wide(),
        Column::number("CLASSES", |model: &Self| model.classes.len().to_string()).wide(),
        Column::number("INPUT", |model: &Self| format!("{0}x{0}", model.image_size)).wide(),
        Column::number("TRAINED", |model: &Self| seconds(model.training_seconds as f64)).wide(),
        Column::number("LATENCY", |model: &Self| milliseconds(model.latency.batch_1_ms)).wide(),
        Column::new("DIGEST", |model: &Self| short(&model.digest)).wide(),
        Column::new("JOB", |model: &Self| model.job.clone()).wide(),
    ];

    /// `task@version`.
    fn name(&self) -> String {
        format!("{}@{}", self.task, self.version)
    }
}

impl Detail for ModelView {
    fn names(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn describe(&self, sheet: &Sheet) -> String {
        let qualified = if self.qualified {
            "reached"
        } else {
            "NOT reached: the most accurate was taken"
        };
        let of = |part, whole| {
            format!(
                "{} ({} of the backbone's {})",
                human(part),
                share(part, whole),
                human(whole)
            )
        };
        let pair = |network: &AccuracyView, teacher: &AccuracyView| {
            format!(
                "{} (teacher {}, {} samples)",
                network.percent(),
                teacher.percent(),
                network.total
            )
        };
        let head = fields(&[
            ("model", self.name()),
            (
                "backbone",
                format!("{}, {1}x{1} pixels", self.backbone, self.image_size),
            ),
            (
                "classes",
                format!("{}: {}", self.classes.len(), self.classes.join(", ")),
            ),
            ("test", pair(&self.test, &self.teacher_test)),
            ("held out", pair(&self.held_out, &self.teacher_held_out)),
            (
                "threshold",
                format!("{:.2} % held out, {qualified}", 100.0 * self.threshold),
            ),
            ("active params", of(self.active_params, self.backbone_params)),
            ("active FLOPs", of(self.active_flops, self.backbone_flops)),
            ("task params", of(self.task_params, self.backbone_params)),
            ("blocks kept", format!("{} (k = {})", self.kept(), self.k)),
            ("latency", self.latencies()),
            ("digest", self.digest.clone()),
            (
                "weights",
                format!("{} ({})", self.weights.digest, bytes(self.weights.bytes)),
            ),
            ("job", self.job.clone()),
            ("trained", seconds(self.training_seconds as f64)),
            ("published", show_moment(self.published)),
        ]);
        if self.layers.is_empty() {
            head
        } else {
            format!("{head}\n{}", table(&self.layers, sheet))
        }
    }
}

impl Row for LayerView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::number("NODE", |layer| layer.node.to_string()),
        Column::new("UNIVERSAL BLOCK", |layer| {
            layer.blocks.first().map(BlockView::show).unwrap_or_default()
        }),
        Column::new("PROXIES KEPT", |layer| {
            let kept = layer
                .blocks
                .iter()
                .skip(1)
                .filter(|block| block.fate == Fate::Kept);
            let shown: Vec<String> = kept
                .map(|block| format!("from {} {}", block.source, block.show()))
                .collect();
            if shown.is_empty() {
                "-".to_owned()
            } else {
                shown.join(", ")
            }
        }),
    ];

    fn name(&self) -> String {
        self.node.to_string()
    }
}

impl BlockView {
    fn show(&self) -> String {
        match self.fate {
            Fate::Kept => format!("{:.3}", self.attention),
            Fate::RemovedByRank => "removed by rank".to_owned(),
            Fate::RemovedByExclusion => "removed by exclusion".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
