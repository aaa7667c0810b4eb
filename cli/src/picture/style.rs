//! How it looks: colours, fonts, and the few shapes that everything is made of.

use svg::node::element::{Line, Rectangle, Text};

pub(super) const FONT: &str = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif";
pub(super) const PAPER: &str = "#ffffff";
pub(super) const BORDER: &str = "#d5dce6";
/// Alternating grounds of the feature-map sizes.
pub(super) const BANDS: [&str; 2] = ["#f3f6fa", "#e9eef5"];
pub(super) const INK: &str = "#1b2733";
pub(super) const QUIET: &str = "#5b6b7c";
/// What is the backbone's, and shared.
pub(super) const SHARED: &str = "#1f5fa8";
/// What is the task's own.
pub(super) const OWN: &str = "#d9650b";
/// Removed because of low attention.
pub(super) const RANKED_OUT: &str = "#8493a5";
/// Removed because nothing reached it, or nothing used it.
pub(super) const CUT_OFF: &str = "#b0413e";
pub(super) const WARNING: &str = "#b3261e";

/// One decimal is finer than any screen.
pub(super) fn px(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

/// Width of a line that stands for this attention, 0 to 1.
pub(super) fn stroke_width(attention: f64) -> f64 {
    px(1.2 + 6.8 * attention)
}

/// Attention in two digits.
pub(super) fn attention_text(attention: f64) -> String {
    match attention {
        a if a > 0.0 && a < 0.01 => "<.01".to_owned(),
        a if a > 0.995 => "1".to_owned(),
        a => format!("{a:.2}").trim_start_matches('0').to_owned(),
    }
}

/// Text that starts, ends or is centred (`anchor`) at a point of its base line.
pub(super) fn text(content: impl Into<String>, x: f64, y: f64, size: f64, fill: &str, anchor: &str) -> Text {
    Text::new(content.into())
        .set("x", px(x))
        .set("y", px(y))
        .set("font-size", size)
        .set("fill", fill)
        .set("text-anchor", anchor)
}

pub(super) fn bold(text: Text) -> Text {
    text.set("font-weight", 600)
}

/// A rectangle with round corners.
pub(super) fn rectangle(x: f64, y: f64, width: f64, height: f64, round: f64) -> Rectangle {
    Rectangle::new()
        .set("x", px(x))
        .set("y", px(y))
        .set("width", px(width))
        .set("height", px(height))
        .set("rx", round)
}

pub(super) fn line(x1: f64, x2: f64, y: f64, stroke: &str, width: f64) -> Line {
    Line::new()
        .set("x1", px(x1))
        .set("x2", px(x2))
        .set("y1", px(y))
        .set("y2", px(y))
        .set("stroke", stroke)
        .set("stroke-width", width)
}

pub(super) fn upright(x: f64, y1: f64, y2: f64, stroke: &str, width: f64) -> Line {
    Line::new()
        .set("x1", px(x))
        .set("x2", px(x))
        .set("y1", px(y1))
        .set("y2", px(y2))
        .set("stroke", stroke)
        .set("stroke-width", width)
}
