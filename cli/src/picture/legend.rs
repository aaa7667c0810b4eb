//! What the shapes mean.

use nettailor_domain::architecture::Fate;
use svg::node::element::{Circle, Group};

use super::geometry::{Geometry, NODE_RADIUS};
use super::network::{arch, universal_shape};
use super::style::{BORDER, INK, OWN, PAPER, QUIET, px, text};

/// Width of one entry.
const ENTRY: f64 = 190.0;

pub(super) fn draw(geometry: &Geometry) -> Group {
    let (width, height) = geometry.size();
    let (y, scale) = (height - 34.0, 0.55);
    let block = |fate: Fate, x: f64| {
        let shape = universal_shape(fate, 0.0, 0.0);
        Group::new()
            .set("transform", format!("translate({} {y}) scale({scale})", px(x)))
            .add(shape)
    };
    let proxy = |x: f64, stroke: &str, width: f64| {
        let path = arch(x - 14.0, x + 14.0, y + 16.0, 22.0)
            .set("stroke", stroke)
            .set("stroke-width", width);
        Group::new().add(path)
    };
    let node = |x: f64| {
        let circle = Circle::new()
            .set("cx", px(x))
            .set("cy", y)
            .set("r", NODE_RADIUS * 0.7);
        Group::new().add(
            circle
                .set("fill", PAPER)
                .set("stroke", INK)
                .set("stroke-width", 1.6),
        )
    };
    let entries: [(&str, &dyn Fn(f64) -> Group); 6] = [
        ("universal block, kept", &|x| block(Fate::Kept, x)),
        ("removed: low attention", &|x| block(Fate::RemovedByRank, x)),
        ("removed: cut off", &|x| block(Fate::RemovedByExclusion, x)),
        ("proxy, wide as attention", &|x| proxy(x, OWN, 4.0)),
        ("proxy, removed", &|x| proxy(x, BORDER, 1.2)),
        ("node, channels below", &node),
    ];
    let left = (width - entries.len() as f64 * ENTRY) / 2.0;
    entries.iter().enumerate().fold(
        Group::new().set("class", "legend"),
        |group, (index, (words, shape))| {
            let x = left + index as f64 * ENTRY + 18.0;
            group
                .add(shape(x))
                .add(text(*words, x + 22.0, y + 4.0, 12.0, QUIET, "start"))
        },
    )
}
