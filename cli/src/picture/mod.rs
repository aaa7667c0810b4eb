//! One SVG per tailored architecture.
//!
//! Nodes 0 to L stand in a row with the universal blocks between them; proxies arch over the row, as wide as the attention
//! they get. [`header`] holds the figures against the backbone, [`network`] the drawing, [`legend`] its key; [`geometry`]
//! knows where everything stands and [`style`] how it looks. The picture brings its own background and needs no fonts,
//! scripts or files beside it.

mod geometry;
mod header;
mod legend;
mod network;
mod style;

use nettailor_domain::model::ModelRecord;
use svg::Document;
use svg::node::element::{Description, Rectangle, Title};

use geometry::Geometry;
use style::{BORDER, FONT, PAPER};

/// The picture of a model's architecture, as SVG text.
pub(crate) fn architecture_svg(model: &ModelRecord) -> String {
    let geometry = Geometry::of(model);
    let (width, height) = geometry.size();
    let card = Rectangle::new()
        .set("x", 0.5)
        .set("y", 0.5)
        .set("width", width - 1.0)
        .set("height", height - 1.0)
        .set("rx", 14)
        .set("fill", PAPER)
        .set("stroke", BORDER);
    Document::new()
        .set("viewBox", (0.0, 0.0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", FONT)
        .set("role", "img")
        .add(Title::new(format!("Tailored architecture of {}", model.task)))
        .add(Description::new().add(svg::node::Text::new(header::in_words(model))))
        .add(card)
        .add(header::draw(model, &geometry))
        .add(network::draw(model, &geometry))
        .add(legend::draw(&geometry))
        .to_string()
}

#[cfg(test)]
mod tests;
