//! A linear axis with round ticks.

/// Gaps between ticks that an axis has at least.
const GAPS: f64 = 4.0;

/// Where values stand between two ends of the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    least: f64,
    most: f64,
    /// Distance of ticks.
    step: f64,
    /// Place of the least value and of the most.
    ends: (f64, f64),
}

impl Axis {
    /// The shortest axis from tick to tick that holds all `values`.
    pub(super) fn covering(values: &[f64], ends: (f64, f64)) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Equal values, or none, get an axis around them.
        let (least, most) = match most - least {
            span if span > 1e-9 => (least, most),
            _ if least.is_finite() => (least - 0.5, least + 0.5),
            _ => (0.0, 1.0),
        };
        let step = round_step((most - least) / GAPS);
        Self {
            least: (least / step + 1e-9).floor() * step,
            most: (most / step - 1e-9).ceil() * step,
            step,
            ends,
        }
    }

    /// The place of a value.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (start, end) = self.ends;
        start + (value - self.least) / (self.most - self.least) * (end - start)
    }

    /// Values to be marked, with their text.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        // Steps are 1, 2 or 5 times a power of ten: so many decimals tell them apart.
        let decimals = (-self.step.log10()).ceil().max(0.0) as usize;
        let count = ((self.most - self.least) / self.step).round() as usize;
        (0..=count)
            .map(|index| self.least + index as f64 * self.step)
            .map(|value| (value, format!("{value:.decimals$}")))
            .collect()
    }
}

/// The largest 1, 2 or 5 times a power of ten up to `span`.
fn round_step(span: f64) -> f64 {
    let power = 10f64.powf(span.log10().floor());
    let digit = [5.0, 2.0].into_iter().find(|digit| digit * power <= span);
    digit.unwrap_or(1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: &[f64]) -> Vec<String> {
        let axis = Axis::covering(values, (0.0, 100.0));
        for value in values {
            assert!(
                (-1e-6..=100.0 + 1e-6).contains(&axis.place(*value)),
                "{value}: {axis:?}"
            );
        }
        axis.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_every_value() {
        assert_eq!(
            ticks(&[33.0, 100.0]),
            ["30", "40", "50", "60", "70", "80", "90", "100"]
        );
        assert_eq!(
            ticks(&[97.1, 98.3]),
            ["97.0", "97.2", "97.4", "97.6", "97.8", "98.0", "98.2", "98.4"]
        );
        assert_eq!(ticks(&[12.0, 98.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(ticks(&[97.75]).len(), 7);
        assert!(!ticks(&[]).is_empty());
    }

    #[test]
    fn ends_are_where_they_should_be() {
        let axis = Axis::covering(&[0.0, 10.0], (400.0, 40.0));
        assert_eq!(
            (axis.place(0.0), axis.place(10.0), axis.place(5.0)),
            (400.0, 40.0, 220.0)
        );
    }
}
