//! Title, and the figures against the backbone.

use nettailor_domain::model::ModelRecord;
use nettailor_domain::units::human;
use svg::node::element::Group;

use super::geometry::{Geometry, MARGIN};
use super::style::{BORDER, INK, OWN, PAPER, QUIET, SHARED, WARNING, bold, px, rectangle, text};

const TILE_TOP: f64 = 88.0;
const TILE_HEIGHT: f64 = 84.0;
const TILE_GAP: f64 = 14.0;

/// One figure: what it is, the figure, what it stands beside, and its share of the whole where it has one.
struct Tile {
    name: &'static str,
    figure: String,
    beside: String,
    share: Option<(f64, &'static str)>,
}

/// The picture in a sentence, for those who cannot see it.
pub(super) fn in_words(model: &ModelRecord) -> String {
    let (architecture, counts) = (&model.architecture, &model.counts);
    format!(
        "{} of {} universal blocks of {} and {} proxies are kept; test accuracy {} (teacher {}); {} of the backbone's \
         FLOPs and {} of its parameters are active.",
        architecture.kept_mains().len(),
        architecture.layers.len(),
        architecture.backbone,
        architecture.kept_proxies(),
        model.accuracy.test,
        model.accuracy.teacher_test,
        percent(counts.active_flops, counts.backbone.flops),
        percent(counts.active_params, counts.backbone.params),
    )
}

pub(super) fn draw(model: &ModelRecord, geometry: &Geometry) -> Group {
    let subtitle = format!(
        "tailored from {} \u{b7} version {} \u{b7} {} classes \u{b7} {side}\u{d7}{side} pixels \u{b7} k = {}",
        model.architecture.backbone,
        model.version,
        model.classes.len(),
        model.selection.k,
        side = model.image_size,
    );
    let (width, _) = geometry.size();
    let mut group = Group::new()
        .set("class", "header")
        .add(bold(text(model.task.as_str(), MARGIN, 46.0, 26.0, INK, "start")))
        .add(text(subtitle, MARGIN, 70.0, 14.0, QUIET, "start"));
    if !model.selection.qualified {
        let warning = format!(
            "no candidate reached {:.2} % held out: the most accurate one was taken",
            100.0 * model.selection.threshold
        );
        group = group.add(bold(text(warning, width - MARGIN, 46.0, 14.0, WARNING, "end")));
    }
    let tiles = tiles(model);
    let tile_width = (width - 2.0 * MARGIN - TILE_GAP * (tiles.len() - 1) as f64) / tiles.len() as f64;
    for (index, tile) in tiles.iter().enumerate() {
        group = group.add(tile.draw(MARGIN + index as f64 * (tile_width + TILE_GAP), tile_width));
    }
    group
}

fn tiles(model: &ModelRecord) -> [Tile; 5] {
    let (architecture, counts, accuracy) = (&model.architecture, &model.counts, &model.accuracy);
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    [
        Tile {
            name: "Test accuracy",
            figure: accuracy.test.to_string(),
            beside: format!("teacher {}", accuracy.teacher_test),
            share: None,
        },
        Tile {
            name: "Held-out accuracy",
            figure: accuracy.held_out.to_string(),
            beside: format!("teacher {}", accuracy.teacher_held_out),
            share: None,
        },
        Tile {
            name: "FLOPs",
            figure: percent(counts.active_flops, counts.backbone.flops),
            beside: format!(
                "{} of {}",
                human(counts.active_flops),
                human(counts.backbone.flops)
            ),
            share: Some((share(counts.active_flops, counts.backbone.flops), SHARED)),
        },
        Tile {
            name: "Active parameters",
            figure: percent(counts.active_params, counts.backbone.params),
            beside: format!(
                "{} of {}",
                human(counts.active_params),
                human(counts.backbone.params)
            ),
            share: Some((share(counts.active_params, counts.backbone.params), SHARED)),
        },
        Tile {
            name: "Stored for this task alone",
            figure: human(counts.task_params),
            beside: format!(
                "{} of {} blocks, {} proxies",
                architecture.kept_mains().len(),
                architecture.layers.len(),
                architecture.kept_proxies()
            ),
            share: Some((share(counts.task_params, counts.backbone.params), OWN)),
        },
    ]
}

impl Tile {
    fn draw(&self, x: f64, width: f64) -> Group {
        let inside = x + 14.0;
        let mut group = Group::new()
            .add(
                rectangle(x, TILE_TOP, width, TILE_HEIGHT, 10.0)
                    .set("fill", PAPER)
                    .set("stroke", BORDER),
            )
            .add(text(self.name, inside, TILE_TOP + 22.0, 12.0, QUIET, "start"))
            .add(bold(text(
                self.figure.as_str(),
                inside,
                TILE_TOP + 48.0,
                22.0,
                INK,
                "start",
            )))
            .add(text(
                self.beside.as_str(),
                inside,
                TILE_TOP + 68.0,
                12.0,
                QUIET,
                "start",
            ));
        if let Some((share, colour)) = self.share {
            let (bar, y) = (width - 28.0, TILE_TOP + TILE_HEIGHT - 8.0);
            group = group
                .add(rectangle(inside, y, bar, 3.0, 1.5).set("fill", BORDER))
                .add(rectangle(inside, y, px(bar * share.clamp(0.0, 1.0)), 3.0, 1.5).set("fill", colour));
        }
        group
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.0} %", 100.0 * part as f64 / whole.max(1) as f64)
}
