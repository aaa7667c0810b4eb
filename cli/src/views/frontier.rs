//! Accuracy and complexity of every candidate of a task.

use nettailor_domain::model::ModelRecord;
use nettailor_domain::stage::FrontierPoint;
use nettailor_domain::units::human;
use serde::Serialize;

use super::AccuracyView;
use crate::output::{Column, Detail, Row, Sheet, fields, table};
use crate::quantity::share;

/// The candidates among which a model was chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FrontierView {
    pub(crate) task: String,
    pub(crate) version: u32,
    /// The backbone's architecture.
    pub(crate) backbone: String,
    pub(crate) teacher_held_out: AccuracyView,
    /// Held-out accuracy that was asked for, a fraction.
    pub(crate) threshold: f64,
    /// By ascending k.
    pub(crate) points: Vec<PointView>,
}

/// One candidate as far as it was trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PointView {
    /// Main blocks removed by rank.
    pub(crate) k: usize,
    /// Main blocks that are left; null where only the chosen candidate's blocks are known.
    pub(crate) blocks_kept: Option<usize>,
    /// Multiply-accumulates of one image.
    pub(crate) active_flops: u64,
    pub(crate) backbone_flops: u64,
    /// Touched by a forward pass.
    pub(crate) active_params: u64,
    pub(crate) backbone_params: u64,
    /// Would be stored for this task alone.
    pub(crate) task_params: u64,
    pub(crate) held_out: AccuracyView,
    /// Epochs it was retrained for, not always a whole number.
    pub(crate) epochs: f64,
    /// Whether it reached the threshold.
    pub(crate) qualifies: bool,
    /// Whether it was trained less than the others.
    pub(crate) stopped_early: bool,
    /// Whether it became the model.
    pub(crate) chosen: bool,
}

impl FrontierView {
    pub(crate) fn of(model: &ModelRecord) -> Self {
        Self {
            task: model.task.to_string(),
            version: model.version,
            backbone: model.architecture.backbone.to_string(),
            teacher_held_out: model.accuracy.teacher_held_out.into(),
            threshold: model.selection.threshold,
            points: points(model),
        }
    }

    fn name(&self) -> String {
        format!("{}@{}", self.task, self.version)
    }
}

/// The candidates of `model`, by ascending k.
pub(super) fn points(model: &ModelRecord) -> Vec<PointView> {
    let longest = model
        .frontier
        .iter()
        .map(|point| point.epochs)
        .fold(0.0, f64::max);
    let view = |point: &FrontierPoint| {
        let chosen = point.k == model.selection.k;
        PointView {
            k: point.k,
            blocks_kept: chosen.then(|| model.architecture.kept_mains().len()),
            active_flops: point.counts.active_flops,
            backbone_flops: point.counts.backbone.flops,
            active_params: point.counts.active_params,
            backbone_params: point.counts.backbone.params,
            task_params: point.counts.task_params,
            held_out: point.held_out.into(),
            epochs: point.epochs,
            qualifies: model.selection.is_reached_by(point.held_out),
            stopped_early: point.epochs < longest,
            chosen,
        }
    };
    model.frontier.iter().map(view).collect()
}

impl PointView {
    /// What became of it.
    fn verdict(&self) -> &'static str {
        match (self.chosen, self.qualifies, self.stopped_early) {
            (true, true, _) => "chosen",
            (true, false, _) => "chosen, below the threshold",
            (false, _, true) => "stopped early",
            (false, true, false) => "qualifies",
            (false, false, false) => "below the threshold",
        }
    }
}

impl Row for PointView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::number("K", |point| point.k.to_string()),
        Column::number("HELD OUT", |point| point.held_out.percent()),
        Column::number("FLOPS", |point| human(point.active_flops)),
        Column::number("OF BACKBONE", |point| {
            share(point.active_flops, point.backbone_flops)
        }),
        Column::number("PARAMS", |point| human(point.active_params)),
        Column::number("OF BACKBONE", |point| {
            share(point.active_params, point.backbone_params)
        }),
        Column::number("TASK PARAMS", |point| human(point.task_params)),
        Column::number("BLOCKS KEPT", |point| {
            point
                .blocks_kept
                .map_or_else(|| "-".to_owned(), |blocks| blocks.to_string())
        }),
        Column::number("EPOCHS", |point| {
            ((point.epochs * 100.0).round() / 100.0).to_string()
        }),
        Column::new("", |point| point.verdict().to_owned()),
    ];

    fn name(&self) -> String {
        format!("candidate({})", self.k)
    }
}

impl Detail for FrontierView {
    fn names(&self) -> Vec<String> {
        self.points.iter().map(Row::name).collect()
    }

    fn describe(&self, sheet: &Sheet) -> String {
        let head = fields(&[
            ("model", self.name()),
            ("backbone", self.backbone.clone()),
            ("teacher", format!("{} held out", self.teacher_held_out.percent())),
            ("threshold", format!("{:.2} % held out", 100.0 * self.threshold)),
        ]);
        format!("{head}\n{}", table(&self.points, sheet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::fixtures::model;

    #[test]
    fn every_candidate_is_told_with_what_became_of_it() {
        let view = FrontierView::of(&model("digits"));
        let verdicts: Vec<(usize, &str)> = view
            .points
            .iter()
            .map(|point| (point.k, point.verdict()))
            .collect();
        assert_eq!(
            verdicts,
            [
                (2, "stopped early"),
                (4, "qualifies"),
                (6, "chosen"),
                (8, "below the threshold")
            ]
        );
        let blocks: Vec<Option<usize>> = view.points.iter().map(|point| point.blocks_kept).collect();
        assert_eq!(blocks, [None, None, Some(10), None]);
        let text = view.describe(&Sheet::default());
        for part in [
            "model:      digits@1\n",
            "threshold:  97.25 % held out\n",
            "\nK  HELD OUT",
            "\n6   97.75 %",
            "  chosen\n",
        ] {
            assert!(text.contains(part), "`{part}` is missing from\n{text}");
        }
    }

    #[test]
    fn a_choice_below_the_threshold_is_said() {
        let mut missed = model("digits");
        missed.selection.threshold = 0.99;
        let verdicts: Vec<&str> = points(&missed).iter().map(PointView::verdict).collect();
        assert_eq!(
            verdicts,
            [
                "stopped early",
                "below the threshold",
                "chosen, below the threshold",
                "below the threshold"
            ]
        );
    }
}
