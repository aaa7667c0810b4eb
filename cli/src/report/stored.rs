//! What has to be kept for some tasks: shared backbones and deltas, or one fine-tuned network each.

use std::collections::{BTreeMap, HashMap};

use nettailor_domain::ids::Digest;
use nettailor_domain::model::ModelRecord;
use nettailor_domain::units::human;
use serde::Serialize;

use super::TaskReport;
use crate::output::{Column, Row};
use crate::quantity::{bytes, plural, share};

/// Storage for all tasks together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Stored {
    /// Each backbone once, however many tasks share it.
    backbones: Vec<Part>,
    /// Each task's own part.
    deltas: Vec<Part>,
    /// Backbones and deltas.
    tailored: Part,
    /// A fine-tuned network per task instead.
    finetuned: Part,
}

/// Something that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Part {
    name: String,
    params: u64,
    /// Size of its file; null where it is not known.
    bytes: Option<u64>,
}

impl Part {
    fn sum<'a>(name: String, parts: impl Iterator<Item = &'a Part> + Clone) -> Self {
        let params = parts.clone().map(|part| part.params).sum();
        Self {
            name,
            params,
            bytes: parts.map(|part| part.bytes).sum(),
        }
    }
}

impl Stored {
    pub(super) fn of(models: &[ModelRecord], tasks: &[TaskReport], sizes: &HashMap<Digest, u64>) -> Self {
        let backbones: BTreeMap<Digest, Part> = models
            .iter()
            .map(|model| {
                let digest = model.lineage.backbone;
                let name = model.architecture.backbone.to_string();
                (
                    digest,
                    Part {
                        name,
                        params: model.counts.backbone.params,
                        bytes: sizes.get(&digest).copied(),
                    },
                )
            })
            .collect();
        let backbones: Vec<Part> = backbones.into_values().collect();
        let part = |task: &TaskReport, params, bytes| Part {
            name: task.name(),
            params,
            bytes: Some(bytes),
        };
        let deltas: Vec<Part> = tasks
            .iter()
            .map(|task| part(task, task.model.task_params, task.model.weights.bytes))
            .collect();
        let teachers: Vec<Part> = tasks
            .iter()
            .map(|task| part(task, task.finetuned_params, task.model.teacher.bytes))
            .collect();
        let count = tasks.len();
        let tailored = Part::sum(plural(count, "tailored network"), backbones.iter().chain(&deltas));
        let finetuned = Part::sum(plural(count, "fine-tuned network"), teachers.iter());
        Self {
            backbones,
            deltas,
            tailored,
            finetuned,
        }
    }

    /// As a table: what is added up, the sum, and what it stands against.
    pub(super) fn lines(&self) -> Vec<Line> {
        let line = |name: String, part: &Part, share| Line {
            name,
            params: part.params,
            bytes: part.bytes,
            share,
        };
        let mut lines: Vec<Line> = self
            .backbones
            .iter()
            .map(|part| line(format!("{}, shared", part.name), part, None))
            .collect();
        lines.extend(
            self.deltas
                .iter()
                .map(|part| line(format!("+ {}", part.name), part, None)),
        );
        let compared = share(self.tailored.params, self.finetuned.params);
        lines.push(line(
            format!("= {}", self.tailored.name),
            &self.tailored,
            Some(compared),
        ));
        lines.push(line(
            format!("instead of {}", self.finetuned.name),
            &self.finetuned,
            Some("100 %".to_owned()),
        ));
        lines
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    name: String,
    params: u64,
    bytes: Option<u64>,
    share: Option<String>,
}

impl Row for Line {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("STORED", |line| line.name.clone()),
        Column::number("PARAMS", |line| human(line.params)),
        Column::number("", |line| line.share.clone().unwrap_or_default()),
        Column::number("FILES", |line| line.bytes.map_or_else(|| "-".to_owned(), bytes)),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }
}
