//! What the shapes mean.

use nettailor_domain::architecture::Fate;
use svg::node::element::{Circle, Group};

use super::geometry::{Geometry, NODE_RADIUS};
use super::network::{arch, universal_shape};
use super::style::{BORDER, INK, OWN, PAPER, QUIET, px, text};

/// Room for an entry's shape, for a letter of its words at most, and after it.
const SHAPE: f64 = 38.0;
const LETTER: f64 = 6.9;
const GAP: f64 = 22.0;

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
    let entry = |words: &str| SHAPE + LETTER * words.chars().count() as f64 + GAP;
    let all: f64 = entries.iter().map(|(words, _)| entry(words)).sum();
    let mut left = (width - all + GAP) / 2.0;
    entries
        .iter()
        .fold(Group::new().set("class", "legend"), |group, (words, shape)| {
            let x = left;
            left += entry(words);
            group.add(shape(x + SHAPE / 2.0 - 4.0)).add(text(
                *words,
                x + SHAPE,
                y + 4.0,
                12.0,
                QUIET,
                "start",
            ))
        })
}
