//! Imported backbones.

use chrono::{DateTime, Utc};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::units::human;
use serde::Serialize;

use super::{ArtifactView, short};
use crate::output::{Column, Detail, Row, Sheet, fields};
use crate::quantity::{bytes, moment, show_moment};

/// A backbone whose weights were imported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BackboneView {
    pub(crate) arch: String,
    /// Parameters without a classifier.
    pub(crate) params: u64,
    pub(crate) weights: ArtifactView,
    /// The file they came from.
    pub(crate) source: String,
    pub(crate) registered: Option<DateTime<Utc>>,
}

impl From<BackboneRecord> for BackboneView {
    fn from(record: BackboneRecord) -> Self {
        Self {
            arch: record.arch.as_str().to_owned(),
            // Parameters do not depend on the size of the input.
            params: record.arch.describe().cost(224).params,
            weights: record.weights.into(),
            source: record.source,
            registered: moment(record.registered_ms),
        }
    }
}

impl Row for BackboneView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("ARCH", |backbone| backbone.arch.clone()),
        Column::number("PARAMS", |backbone| human(backbone.params)),
        Column::number("SIZE", |backbone| bytes(backbone.weights.bytes)),
        Column::new("DIGEST", |backbone| short(&backbone.weights.digest)),
        Column::new("IMPORTED", |backbone| show_moment(backbone.registered)),
        Column::new("SOURCE", |backbone| backbone.source.clone()),
    ];

    fn name(&self) -> String {
        self.arch.clone()
    }
}

impl Detail for BackboneView {
    fn names(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn describe(&self, _: &Sheet) -> String {
        fields(&[
            ("backbone", self.arch.clone()),
            ("parameters", human(self.params)),
            ("digest", self.weights.digest.clone()),
            ("size", bytes(self.weights.bytes)),
            ("source", self.source.clone()),
            ("imported", show_moment(self.registered)),
        ])
    }
}
