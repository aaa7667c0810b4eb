//! Accuracy over complexity: every candidate of a task as a point.

use nettailor_domain::model::ModelRecord;
use svg::node::element::{Circle, Group, Polyline};

use super::axis::Axis;
use super::card;
use super::style::{BORDER, INK, OWN, PAPER, QUIET, SHARED, WARNING, bold, line, px, text, upright};
use crate::views::{FrontierView, PointView};

const SIZE: (f64, f64) = (860.0, 540.0);
/// Edges of the plot itself; the space to its right names the lines.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 100.0;
const BOTTOM: f64 = 420.0;
const RADIUS: f64 = 6.0;
/// Labels of points nearer than this to each other stand on different sides.
const CROWDED: f64 = 44.0;

/// The plot of the candidates among which `model` was chosen, as SVG text.
pub(crate) fn frontier_svg(model: &ModelRecord) -> String {
    let view = FrontierView::of(model);
    let plot = Plot::of(&view);
    let title = format!("Accuracy and complexity of {}", model.task);
    let subtitle = format!(
        "version {} \u{b7} {} \u{b7} {side}\u{d7}{side} pixels \u{b7} k: blocks removed by rank",
        view.version,
        view.backbone,
        side = model.image_size,
    );
    card(SIZE, title.clone(), in_words(&view))
        .add(bold(text(title, LEFT, 42.0, 22.0, INK, "start")))
        .add(text(subtitle, LEFT, 66.0, 13.0, QUIET, "start"))
        .add(plot.axes())
        .add(plot.levels(&view))
        .add(plot.front(&view))
        .add(plot.points(&view))
        .add(legend())
        .to_string()
}

/// The picture in a sentence, for those who cannot see it.
fn in_words(view: &FrontierView) -> String {
    let chosen = view.points.iter().find(|point| point.chosen);
    let chosen = chosen.map_or_else(String::new, |point| {
        format!(
            " Chosen is k = {} with {} at {:.0} % of the backbone's FLOPs.",
            point.k,
            point.held_out.percent(),
            cost(point)
        )
    });
    format!(
        "Held-out accuracy over active FLOPs of {} candidates of {}; the teacher has {}, {:.2} % were asked for.{chosen}",
        view.points.len(),
        view.task,
        view.teacher_held_out.percent(),
        100.0 * view.threshold,
    )
}

/// Percent of the backbone's FLOPs.
fn cost(point: &PointView) -> f64 {
    100.0 * point.active_flops as f64 / point.backbone_flops.max(1) as f64
}

/// Percent of the held-out samples.
fn accuracy(point: &PointView) -> f64 {
    100.0 * point.held_out.fraction
}

struct Plot {
    x: Axis,
    y: Axis,
}

impl Plot {
    fn of(view: &FrontierView) -> Self {
        // The backbone itself is always in sight.
        let costs: Vec<f64> = view.points.iter().map(cost).chain([100.0]).collect();
        let levels = [100.0 * view.teacher_held_out.fraction, 100.0 * view.threshold];
        let accuracies: Vec<f64> = view.points.iter().map(accuracy).chain(levels).collect();
        Self {
            x: Axis::covering(&costs, (LEFT, RIGHT)),
            y: Axis::covering(&accuracies, (BOTTOM, TOP)),
        }
    }

    fn place(&self, point: &PointView) -> (f64, f64) {
        (self.x.place(cost(point)), self.y.place(accuracy(point)))
    }

    fn axes(&self) -> Group {
        let mut group = Group::new().set("class", "axes");
        for (value, words) in self.y.ticks() {
            let y = self.y.place(value);
            group = group.add(line(LEFT, RIGHT, y, BORDER, 1.0)).add(text(
                words,
                LEFT - 10.0,
                y + 4.0,
                12.0,
                QUIET,
                "end",
            ));
        }
        for (value, words) in self.x.ticks() {
            let x = self.x.place(value);
            group = group.add(upright(x, BOTTOM, BOTTOM + 6.0, QUIET, 1.0)).add(text(
                words,
                x,
                BOTTOM + 22.0,
                12.0,
                QUIET,
                "middle",
            ));
        }
        let middle = (TOP + BOTTOM) / 2.0;
        let turned = text("held-out accuracy, %", 0.0, 0.0, 13.0, INK, "middle")
            .set("transform", format!("translate(30 {middle}) rotate(-90)"));
        group
            .add(line(LEFT, RIGHT, BOTTOM, QUIET, 1.2))
            .add(turned)
            .add(text(
                "active FLOPs, % of the backbone",
                (LEFT + RIGHT) / 2.0,
                BOTTOM + 46.0,
                13.0,
                INK,
                "middle",
            ))
    }

    /// What was to be reached.
    fn levels(&self, view: &FrontierView) -> Group {
        let level = |share: f64, name: &str, colour: &str, below: f64| {
            let y = self.y.place(100.0 * share);
            let words = format!("{name} {:.2} %", 100.0 * share);
            Group::new()
                .set("class", "level")
                .add(line(LEFT, RIGHT, y, colour, 1.6).set("stroke-dasharray", "7 4"))
                .add(text(words, RIGHT + 26.0, y + below, 12.0, colour, "start"))
        };
        // The teacher is never below the threshold.
        Group::new()
            .add(level(view.teacher_held_out.fraction, "teacher", SHARED, -2.0))
            .add(level(view.threshold, "threshold", WARNING, 12.0))
    }

    /// A line through the candidates that no other beats in both respects.
    fn front(&self, view: &FrontierView) -> Polyline {
        let unbeaten = |point: &&PointView| {
            !view.points.iter().any(|other| {
                let (flops, right) = (other.active_flops, other.held_out.correct);
                let no_worse = flops <= point.active_flops && right >= point.held_out.correct;
                no_worse && (flops, right) != (point.active_flops, point.held_out.correct)
            })
        };
        let mut front: Vec<(f64, f64)> = view
            .points
            .iter()
            .filter(unbeaten)
            .map(|point| self.place(point))
            .collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0));
        let corners: Vec<String> = front
            .iter()
            .map(|(x, y)| format!("{},{}", px(*x), px(*y)))
            .collect();
        Polyline::new()
            .set("class", "front")
            .set("points", corners.join(" "))
            .set("fill", "none")
            .set("stroke", OWN)
            .set("stroke-opacity", 0.45)
            .set("stroke-width", 2)
    }

    fn points(&self, view: &FrontierView) -> Group {
        let mut points: Vec<&PointView> = view.points.iter().collect();
        points.sort_by_key(|point| point.active_flops);
        let mut group = Group::new();
        let mut last: Option<(f64, bool)> = None;
        for point in points {
            let (x, y) = self.place(point);
            let crowded = last.is_some_and(|(left, above)| above && x - left < CROWDED);
            // Nothing is written over the axis below, nor over the title.
            let above = !crowded || y + 24.0 > BOTTOM;
            last = Some((x, above));
            let class = if point.chosen { "chosen" } else { "candidate" };
            let mark = Mark::of(point).draw(x, y).set("class", class);
            group = group.add(mark).add(label(point, x, y, above));
        }
        group
    }
}

/// What a candidate is drawn as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Trained,
    Stopped,
    Chosen,
}

impl Mark {
    fn of(point: &PointView) -> Self {
        match (point.chosen, point.stopped_early) {
            (true, _) => Self::Chosen,
            (false, true) => Self::Stopped,
            (false, false) => Self::Trained,
        }
    }

    fn draw(self, x: f64, y: f64) -> Group {
        let circle = |radius: f64| Circle::new().set("cx", px(x)).set("cy", px(y)).set("r", radius);
        let dot = |fill: &str| {
            circle(RADIUS)
                .set("fill", fill)
                .set("stroke", OWN)
                .set("stroke-width", 2)
        };
        let ring = circle(RADIUS + 5.0)
            .set("fill", "none")
            .set("stroke", INK)
            .set("stroke-width", 2);
        match self {
            Self::Trained => Group::new().add(dot(OWN)),
            Self::Stopped => Group::new().add(dot(PAPER)),
            Self::Chosen => Group::new().add(dot(OWN)).add(ring),
        }
    }
}

fn label(point: &PointView, x: f64, y: f64, above: bool) -> svg::node::element::Text {
    let away = if above { -16.0 } else { 26.0 };
    let words = format!("k = {}", point.k);
    let label = if point.chosen {
        bold(text(words, x, y + away, 13.0, INK, "middle"))
    } else {
        text(words, x, y + away, 12.0, QUIET, "middle")
    };
    // Lines end before the letters.
    label
        .set("stroke", PAPER)
        .set("stroke-width", 4)
        .set("paint-order", "stroke")
}

/// What the marks mean.
fn legend() -> Group {
    let y = SIZE.1 - 34.0;
    let entries = [
        (Mark::Trained, "candidate", LEFT + 10.0),
        (Mark::Stopped, "stopped early", LEFT + 130.0),
        (Mark::Chosen, "chosen", LEFT + 270.0),
    ];
    let group = Group::new().set("class", "legend");
    entries.into_iter().fold(group, |group, (mark, words, x)| {
        group
            .add(mark.draw(x, y))
            .add(text(words, x + 18.0, y + 4.0, 12.0, QUIET, "start"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::fixtures::model;

    fn count(svg: &str, class: &str) -> usize {
        let document =
            roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("not XML: {error}\n{svg}"));
        document
            .descendants()
            .filter(|element| element.attribute("class") == Some(class))
            .count()
    }

    #[test]
    fn every_candidate_is_a_point_and_one_is_chosen() {
        let svg = frontier_svg(&model("digits"));
        assert_eq!((count(&svg, "candidate"), count(&svg, "chosen")), (3, 1));
        assert_eq!(count(&svg, "level"), 2);
        for part in [
            "teacher 97.75 %",
            "threshold 97.25 %",
            "active FLOPs, % of the backbone",
            "Chosen is k = 6 with 97.75 %",
        ] {
            assert!(svg.contains(part), "`{part}` is missing from\n{svg}");
        }
    }

    #[test]
    fn the_front_leaves_out_what_is_beaten() {
        let svg = frontier_svg(&model("digits"));
        let document = roxmltree::Document::parse(&svg).expect("checked above");
        let front = document
            .descendants()
            .find(|element| element.attribute("class") == Some("front"))
            .and_then(|element| element.attribute("points"))
            .expect("a line");
        // k = 2 costs more than k = 4 and is worse.
        assert_eq!(front.split(' ').count(), 3, "{front}");
    }

    #[test]
    fn a_single_candidate_is_drawn_too() {
        let mut single = model("digits");
        single.frontier.retain(|point| point.k == 6);
        assert_eq!(count(&frontier_svg(&single), "chosen"), 1);
    }
}
