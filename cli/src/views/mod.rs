//! What the CLI shows, with stable keys: the documented JSON and YAML, and the columns of the tables.
//!
//! Nothing else prints models, jobs, workers, users or backbones, and no generated type is printed. Keys are only ever added.
//! Times are RFC 3339 in UTC, spans are seconds, accuracies hold their counts and the fraction.

mod backbone;
mod explanation;
#[cfg(test)]
pub(crate) mod fixtures;
mod frontier;
mod history;
mod inspection;
mod job;
mod model;
mod user;
mod worker;

pub(crate) use backbone::BackboneView;
pub(crate) use explanation::ExplanationView;
pub(crate) use frontier::{FrontierView, PointView};
pub(crate) use history::{HistoryView, LogView};
pub(crate) use inspection::InspectionView;
pub(crate) use job::{JobState, JobView, StageState, StageView};
pub(crate) use model::ModelView;
pub(crate) use user::UserView;
pub(crate) use worker::WorkerView;

use nettailor_domain::stage::{Artifact, Latency};
use nettailor_domain::units::Accuracy;
use serde::Serialize;

/// Samples classified right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct AccuracyView {
    pub(crate) correct: u64,
    pub(crate) total: u64,
    pub(crate) fraction: f64,
}

impl From<Accuracy> for AccuracyView {
    fn from(accuracy: Accuracy) -> Self {
        Self {
            correct: accuracy.correct,
            total: accuracy.total,
            fraction: accuracy.fraction(),
        }
    }
}

impl AccuracyView {
    /// `97.80 %`.
    pub(crate) fn percent(&self) -> String {
        format!("{:.2} %", 100.0 * self.fraction)
    }
}

/// Milliseconds of a forward pass on the worker that measured it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LatencyView {
    /// Of one image.
    pub(crate) batch_1_ms: f64,
    /// Of 32 images.
    pub(crate) batch_32_ms: f64,
}

impl From<Latency> for LatencyView {
    fn from(latency: Latency) -> Self {
        Self {
            batch_1_ms: latency.batch_1_ms,
            batch_32_ms: latency.batch_32_ms,
        }
    }
}

/// A file in the artifact store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ArtifactView {
    /// blake3, 64 hexadecimal digits.
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

impl From<Artifact> for ArtifactView {
    fn from(artifact: Artifact) -> Self {
        Self {
            digest: artifact.digest.to_string(),
            bytes: artifact.bytes,
        }
    }
}

/// The first twelve digits of a digest, as people see it.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
