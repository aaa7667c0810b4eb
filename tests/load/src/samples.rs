//! Measured times and their quantiles.

use std::time::Duration;

use serde::Serialize;

/// Times of many repetitions, every one of them kept.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

/// What is said of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many there are.
    pub count: usize,
    /// Half are no longer than this.
    pub p50_ms: f64,
    /// 99 of 100 are no longer than this.
    pub p99_ms: f64,
    /// None is longer than this.
    pub max_ms: f64,
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// By nearest rank: a quantile is one of the samples. All are 0 where there is none.
    pub fn quantiles(&self) -> Quantiles {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            let time = sorted.get(rank.saturating_sub(1));
            time.map_or(0.0, |time| milliseconds(*time))
        };
        Quantiles {
            count: sorted.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        }
    }
}

/// With a resolution of a microsecond, for people.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// With a resolution of a millisecond, for people.
pub fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_by_nearest_rank() {
        let mut samples = Samples::default();
        assert_eq!(samples.quantiles().p99_ms, 0.0);
        for ms in (1..=200).rev() {
            samples.add(Duration::from_millis(ms));
        }
        let found = samples.quantiles();
        let expected = Quantiles {
            count: 200,
            p50_ms: 100.0,
            p99_ms: 198.0,
            max_ms: 200.0,
        };
        assert_eq!(found, expected);
    }
}
