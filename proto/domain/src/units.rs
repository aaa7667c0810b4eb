//! Quantities with their units in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A share of correctly classified samples, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Samples whose best class was right.
    pub correct: u64,
    /// Samples classified.
    pub total: u64,
}

impl Accuracy {
    /// Share of correct samples, 0 for an empty set.
    pub fn fraction(&self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            self.correct as f64 / self.total as f64
        }
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2} %", 100.0 * self.fraction()))
    }
}

/// What a part of a network costs for one image. Less is fewer operations, then fewer parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Multiply-accumulates; batch norm counts 2 per output element.
    pub flops: u64,
    /// Convolution weights, 2 per batch-norm channel, and linear layers.
    pub params: u64,
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost {
            flops: self.flops + other.flops,
            params: self.params + other.params,
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |a, b| a + b)
    }
}

/// A count for people: `1.82 G`, `11.18 M`, `512`.
pub fn human(count: u64) -> String {
    let count = count as f64;
    match count {
        c if c >= 1e9 => format!("{:.2} G", c / 1e9),
        c if c >= 1e6 => format!("{:.2} M", c / 1e6),
        c if c >= 1e4 => format!("{:.1} k", c / 1e3),
        c => format!("{c:.0}"),
    }
}
