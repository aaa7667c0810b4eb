//! What `dataset inspect` saw.

use serde::Serialize;

use crate::inputs::dataset::Inspection;
use crate::output::{Column, Detail, Row, Sheet, fields, table};
use crate::quantity::bytes;

/// A data set that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct InspectionView {
    /// As typed.
    pub(crate) path: String,
    #[serde(flatten)]
    pub(crate) inspection: Inspection,
}

/// A class's line: its images in each of the splits that there are.
#[derive(Serialize)]
struct Line {
    class: String,
    counts: [Option<u64>; 4],
}

/// Names of splits, in the order of [`Line::counts`].
const SPLITS: [&str; 4] = ["all", "train", "val", "test"];

impl Line {
    fn count(&self, split: usize) -> String {
        self.counts[split].map_or_else(|| "-".to_owned(), |count| count.to_string())
    }
}

impl Row for Line {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("CLASS", |line| line.class.clone()),
        Column::number("IMAGES", |line| {
            line.counts.iter().flatten().sum::<u64>().to_string()
        }),
        Column::number("TRAIN", |line| line.count(1)),
        Column::number("VAL", |line| line.count(2)),
        Column::number("TEST", |line| line.count(3)),
    ];

    fn name(&self) -> String {
        self.class.clone()
    }
}

impl Detail for InspectionView {
    fn names(&self) -> Vec<String> {
        self.inspection
            .classes
            .iter()
            .map(|class| class.class.clone())
            .collect()
    }

    fn describe(&self, sheet: &Sheet) -> String {
        let seen = &self.inspection;
        let splits = seen.splits.iter().filter(|(split, _)| **split != SPLITS[0]);
        let splits: Vec<String> = splits
            .map(|(split, images)| format!("{images} {split}"))
            .collect();
        let size = |(width, height): (u32, u32)| format!("{width} x {height}");
        let sizes = seen.sizes.map(|sizes| {
            let [least, median, largest] = [sizes.least, sizes.median, sizes.largest].map(size);
            format!("{least} least, {median} median, {largest} largest")
        });
        let broken: Vec<String> = seen
            .broken
            .iter()
            .map(|image| format!("{}: {}", image.name, image.reason))
            .collect();
        let ignored = Some(seen.ignored_files).filter(|&files| files > 0);
        let head = fields(&[
            ("data", self.path.clone()),
            ("format", seen.format.to_owned()),
            ("classes", seen.classes.len().to_string()),
            ("images", seen.images.to_string()),
            ("splits", splits.join(", ")),
            ("bytes", bytes(seen.bytes)),
            ("sizes", sizes.unwrap_or_default()),
            (
                "ignored files",
                ignored.map(|files| files.to_string()).unwrap_or_default(),
            ),
            ("broken", broken.join("\n")),
        ]);
        let line = |class: &crate::inputs::dataset::Class| Line {
            class: class.class.clone(),
            counts: SPLITS.map(|split| class.images.get(split).copied()),
        };
        let lines: Vec<Line> = seen.classes.iter().map(line).collect();
        format!("{head}\n{}", table(&lines, sheet))
    }
}
