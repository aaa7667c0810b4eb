//! Choosing the leanest candidate that is accurate enough (METHOD section 6, step 6).

use serde::{Deserialize, Serialize};

use crate::units::{Accuracy, Cost};

/// What selection looks at. Held-out accuracy only: the test split is never an argument here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CandidateScore {
    /// Main blocks removed by rank.
    pub k: usize,
    /// Active FLOPs and parameters.
    pub cost: Cost,
    /// Accuracy on the held-out split.
    pub held_out: Accuracy,
}

/// The chosen candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Which one.
    pub k: usize,
    /// Held-out accuracy that was asked for, 0 to 1.
    pub threshold: f64,
    /// False where no candidate reached the threshold and the most accurate was taken.
    pub qualified: bool,
}

impl Selection {
    /// Whether a held-out accuracy is as high as was asked for.
    pub fn is_reached_by(&self, held_out: Accuracy) -> bool {
        reaches(held_out, self.threshold)
    }
}

/// Whether a candidate of this accuracy qualifies. One rounding error of slack, so that "exactly 0.5 points below" does.
pub fn reaches(held_out: Accuracy, threshold: f64) -> bool {
    held_out.fraction() >= threshold - 1e-12
}

/// The feasible candidate of least FLOPs (then parameters, then higher accuracy) whose held-out accuracy is within
/// `tolerance` (a fraction: 0.005 is half a point) of the teacher's; the most accurate if none is. `None` without candidates.
pub fn select(candidates: &[CandidateScore], teacher: Accuracy, tolerance: f64) -> Option<Selection> {
    let threshold = teacher.fraction() - tolerance;
    let accuracy = |c: &CandidateScore| c.held_out.fraction();
    let leaner = |a: &&CandidateScore, b: &&CandidateScore| {
        a.cost
            .cmp(&b.cost)
            .then(accuracy(b).total_cmp(&accuracy(a)))
            .then(b.k.cmp(&a.k))
    };
    let qualifying = candidates
        .iter()
        .filter(|c| reaches(c.held_out, threshold))
        .min_by(leaner);
    let best = || {
        candidates
            .iter()
            .min_by(|a, b| accuracy(b).total_cmp(&accuracy(a)).then(leaner(a, b)))
    };
    let chosen = qualifying.or_else(best)?;
    Some(Selection {
        k: chosen.k,
        threshold,
        qualified: qualifying.is_some(),
    })
}
