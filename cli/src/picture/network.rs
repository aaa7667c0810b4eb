//! The network itself: bands of equal feature maps, universal blocks in a row, proxies over it.

use nettailor_domain::architecture::{Candidate, Fate};
use nettailor_domain::model::ModelRecord;
use svg::node::element::path::Data;
use svg::node::element::{Circle, Group, Path, Rectangle, Title};

use super::geometry::{BLOCK, END_BOX, Geometry, NODE_RADIUS};
use super::style::{
    BANDS, BORDER, CUT_OFF, INK, OWN, PAPER, QUIET, RANKED_OUT, SHARED, attention_text, bold, line, px,
    rectangle, stroke_width, text,
};

pub(super) fn draw(model: &ModelRecord, geometry: &Geometry) -> Group {
    let mut group = Group::new()
        .set("class", "network")
        .add(bands(geometry))
        .add(ends(model, geometry));
    // What is removed lies under what is kept, labels lie over both.
    let (mut removed, mut kept, mut labels) = (Group::new(), Group::new(), Group::new());
    for (index, layer) in model.architecture.layers.iter().enumerate() {
        let attention = layer.attention();
        for (position, (block, attention)) in layer.blocks.iter().zip(attention).enumerate() {
            let l = index + 1;
            match (position, block.kept()) {
                (0, true) => kept = kept.add(universal(block, l, attention, geometry)),
                (0, false) => removed = removed.add(universal(block, l, attention, geometry)),
                (_, true) => {
                    kept = kept.add(proxy(block, l, attention, geometry));
                    labels = labels.add(proxy_label(block, l, attention, geometry));
                }
                (_, false) => removed = removed.add(proxy(block, l, attention, geometry)),
            }
        }
    }
    group = group.add(removed).add(kept);
    for n in 0..geometry.shapes.len() {
        group = group.add(node(n, model.architecture.node_live(n), geometry));
    }
    group.add(labels)
}

fn bands(geometry: &Geometry) -> Group {
    let (top, bottom) = (geometry.bands_top(), geometry.bands_bottom());
    geometry
        .bands()
        .iter()
        .enumerate()
        .fold(Group::new().set("class", "bands"), |group, (index, band)| {
            let ground = rectangle(band.left, top, band.right - band.left, bottom - top, 0.0);
            let side = format!("{0}\u{d7}{0}", band.side);
            group
                .add(ground.set("fill", BANDS[index % BANDS.len()]))
                .add(bold(text(
                    side,
                    (band.left + band.right) / 2.0,
                    bottom - 12.0,
                    13.0,
                    QUIET,
                    "middle",
                )))
        })
}

/// Stem and head, which are always there.
fn ends(model: &ModelRecord, geometry: &Geometry) -> Group {
    let (row, (stem, head)) = (geometry.row(), geometry.end_boxes());
    let last = geometry.node(geometry.shapes.len() - 1);
    let end = |x: f64, names: [String; 2], fill: &str| {
        let middle = x + END_BOX / 2.0;
        let [upper, lower] = names;
        Group::new()
            .add(rectangle(x, row - 26.0, END_BOX, 52.0, 8.0).set("fill", fill))
            .add(bold(text(upper, middle, row - 2.0, 12.0, PAPER, "middle")))
            .add(text(lower, middle, row + 14.0, 11.0, PAPER, "middle"))
    };
    let input = format!("{0}\u{d7}{0}", model.image_size);
    Group::new()
        .set("class", "ends")
        .add(line(stem + END_BOX, geometry.node(0), row, SHARED, 8.0))
        .add(line(last, head, row, SHARED, 8.0))
        .add(end(stem, ["stem".to_owned(), input], SHARED))
        .add(end(
            head,
            [
                "classifier".to_owned(),
                format!("{} classes", model.classes.len()),
            ],
            OWN,
        ))
}

/// How a universal block of this fate is drawn, empty if it is removed.
pub(super) fn universal_shape(fate: Fate, x: f64, y: f64) -> Rectangle {
    let (width, height) = BLOCK;
    let shape = rectangle(x - width / 2.0, y - height / 2.0, width, height, 7.0);
    match fate {
        Fate::Kept => shape.set("fill", SHARED),
        Fate::RemovedByRank => shape
            .set("fill", PAPER)
            .set("stroke", RANKED_OUT)
            .set("stroke-width", 1.6)
            .set("stroke-dasharray", "6 4"),
        Fate::RemovedByExclusion => shape
            .set("fill", PAPER)
            .set("stroke", CUT_OFF)
            .set("stroke-width", 1.6)
            .set("stroke-dasharray", "1.6 3.4"),
    }
}

/// Class of a block's element, and its fate in words.
fn fate_words(fate: Fate) -> (&'static str, &'static str) {
    match fate {
        Fate::Kept => ("kept", "kept"),
        Fate::RemovedByRank => ("removed-by-rank", "removed: low attention"),
        Fate::RemovedByExclusion => ("removed-by-exclusion", "removed: cut off"),
    }
}

fn universal(block: &Candidate, l: usize, attention: f64, geometry: &Geometry) -> Group {
    let (x, row) = (geometry.block(l), geometry.row());
    let (class, words) = fate_words(block.fate);
    let label = format!("G{l}");
    let mut group = Group::new()
        .set("class", format!("universal {class}"))
        .add(Title::new(format!(
            "universal block of layer {l}, {words}, attention {attention:.3}"
        )));
    if block.kept() {
        group = group
            .add(line(
                geometry.node(l - 1),
                geometry.node(l),
                row,
                SHARED,
                stroke_width(attention),
            ))
            .add(universal_shape(block.fate, x, row))
            .add(bold(text(label, x, row + 4.5, 13.0, PAPER, "middle")))
            .add(bold(text(
                attention_text(attention),
                x,
                row + 37.0,
                12.0,
                SHARED,
                "middle",
            )));
    } else {
        let ink = if block.fate == Fate::RemovedByRank {
            RANKED_OUT
        } else {
            CUT_OFF
        };
        group = group.add(universal_shape(block.fate, x, row)).add(text(
            label,
            x,
            row + 4.5,
            13.0,
            ink,
            "middle",
        ));
    }
    group
}

/// The line of a proxy from `from` to `to` over the row, with its apex `height` above it.
pub(super) fn arch(from: f64, to: f64, row: f64, height: f64) -> Path {
    let foot = row - NODE_RADIUS * 0.8;
    let (lean, top) = (
        (to - from) * 0.12,
        foot - (height - NODE_RADIUS * 0.8) * 4.0 / 3.0,
    );
    let curve = (px(from + lean), px(top), px(to - lean), px(top), px(to), px(foot));
    Path::new().set("fill", "none").set(
        "d",
        Data::new().move_to((px(from), px(foot))).cubic_curve_to(curve),
    )
}

fn proxy(block: &Candidate, l: usize, attention: f64, geometry: &Geometry) -> Group {
    let (from, to) = (geometry.node(block.source) + 5.0, geometry.node(l) - 5.0);
    let path = arch(from, to, geometry.row(), geometry.arch(l - block.source));
    let path = match block.kept() {
        true => path
            .set("stroke", OWN)
            .set("stroke-width", stroke_width(attention))
            .set("stroke-opacity", 0.88),
        false => path.set("stroke", BORDER).set("stroke-width", 1),
    };
    let (class, words) = fate_words(block.fate);
    let title = format!(
        "proxy from node {} to node {l}, {words}, attention {attention:.3}",
        block.source
    );
    Group::new()
        .set("class", format!("proxy {class}"))
        .add(Title::new(title))
        .add(path)
}

fn proxy_label(block: &Candidate, l: usize, attention: f64, geometry: &Geometry) -> Group {
    let x = (geometry.node(block.source) + geometry.node(l)) / 2.0;
    let y = geometry.row() - geometry.arch(l - block.source);
    Group::new()
        .add(
            rectangle(x - 15.0, y - 8.5, 30.0, 17.0, 8.5)
                .set("fill", PAPER)
                .set("stroke", OWN)
                .set("stroke-width", 1),
        )
        .add(bold(text(
            attention_text(attention),
            x,
            y + 4.0,
            11.0,
            OWN,
            "middle",
        )))
}

fn node(n: usize, live: bool, geometry: &Geometry) -> Group {
    let (x, row, shape) = (geometry.node(n), geometry.row(), geometry.shapes[n]);
    let ink = if live { INK } else { RANKED_OUT };
    let circle = Circle::new()
        .set("cx", px(x))
        .set("cy", px(row))
        .set("r", NODE_RADIUS)
        .set("fill", PAPER);
    let circle = circle
        .set("stroke", ink)
        .set("stroke-width", if live { 2.0 } else { 1.2 });
    let circle = if live {
        circle
    } else {
        circle.set("stroke-dasharray", "2 3")
    };
    let side = shape.side;
    let title = format!(
        "node {n}: {} channels of {side}\u{d7}{side}{}",
        shape.channels,
        if live { "" } else { ", unused" }
    );
    Group::new()
        .set("class", if live { "node live" } else { "node dead" })
        .add(Title::new(title))
        .add(circle)
        .add(bold(text(n.to_string(), x, row + 4.0, 11.0, ink, "middle")))
        .add(text(
            shape.channels.to_string(),
            x,
            row + 37.0,
            11.0,
            QUIET,
            "middle",
        ))
}
