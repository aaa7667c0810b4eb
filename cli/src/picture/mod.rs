//! One SVG per tailored architecture, and one per frontier ([`frontier`]) among whose points it was chosen.
//!
//! Nodes 0 to L stand in a row with the universal blocks between them; proxies arch over the row, as wide as the attention
//! they get. [`header`] holds the figures against the backbone, [`network`] the drawing, [`legend`] its key; [`geometry`]
//! knows where everything stands and [`style`] how it looks. The picture brings its own background and needs no fonts,
//! scripts or files beside it.

mod axis;
mod frontier;
mod geometry;
mod header;
mod legend;
mod network;
mod style;

use nettailor_domain::model::ModelRecord;
use svg::Document;
use svg::node::element::{Description, Title};

pub(crate) use frontier::frontier_svg;

use geometry::Geometry;
use style::{BORDER, FONT, PAPER, rectangle};

/// The picture of a model's architecture, as SVG text.
pub(crate) fn architecture_svg(model: &ModelRecord) -> String {
    let geometry = Geometry::of(model);
    let title = format!("Tailored architecture of {}", model.task);
    card(geometry.size(), title, header::in_words(model))
        .add(header::draw(model, &geometry))
        .add(network::draw(model, &geometry))
        .add(legend::draw(&geometry))
        .to_string()
}

/// An empty picture on its own background; `words` say what it shows to those who cannot see it.
fn card((width, height): (f64, f64), title: String, words: String) -> Document {
    let paper = rectangle(0.5, 0.5, width - 1.0, height - 1.0, 14.0)
        .set("fill", PAPER)
        .set("stroke", BORDER);
    Document::new()
        .set("viewBox", (0.0, 0.0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", FONT)
        .set("role", "img")
        .add(Title::new(title))
        .add(Description::new().add(svg::node::Text::new(words)))
        .add(paper)
}

#[cfg(test)]
mod tests;
