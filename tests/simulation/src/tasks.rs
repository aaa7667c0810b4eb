//! Tasks to submit and results to report.

use nettailor_domain::session::Order;
use nettailor_domain::stage::{StageKind, StageResult};
use nettailor_domain::task::{ResourceSettings, Search, Workers};
use nettailor_scheduler::event::Submission;
use nettailor_scheduler::testing;

/// Main blocks without which no network is left.
const TOO_MANY: usize = 8;
/// What trainers cannot read.
const BAD: &str = "bad";

/// How many tasks there are. They overlap in different ways; the last two are bad: one cannot be read, one leaves no network.
pub(crate) const VARIANTS: u32 = 20;

/// Whether no job of this variant can succeed.
pub(crate) fn is_bad(variant: u32) -> bool {
    variant % VARIANTS >= VARIANTS - 2
}

/// Whether an attempt at this cannot succeed.
pub(crate) fn is_unreadable(order: &Order) -> bool {
    order.description.starts_with(BAD)
}

/// A task: some over a backbone that is made first, some with a search, some for gangs.
pub(crate) fn variation(variant: u32, job: &str, resources: ResourceSettings) -> Submission {
    let variant = variant % VARIANTS;
    let name = match variant {
        18 => BAD,
        _ if variant.is_multiple_of(2) => "digits",
        _ => "numbers",
    };
    let mut submission = testing::task(job, name);
    let task = &mut submission.task;
    task.resources = resources;
    match variant {
        18 => task.teacher.epochs = 2,
        19 => task.candidates.k = Some(vec![TOO_MANY]),
        2 | 3 | 12 => task.student.gamma1 = 0.7,
        4 | 5 | 13 => task.candidates.k = Some(vec![2, 4, 6]),
        6 | 7 => task.candidates.search = Search::Halving,
        8..=11 => task.seed = variant.into(),
        _ => {}
    }
    task.workers = match variant {
        3 | 8 => "2".parse(),
        5 => "3..6".parse(),
        7 | 9 => "1..4".parse(),
        11 | 14 => "2..3".parse(),
        _ => Ok(Workers::ONE),
    }
    .expect("workers");
    match variant {
        1 | 7 | 10 => testing::sourced(submission, variant.into()),
        _ => submission,
    }
}

/// What a trainer finds that does as it is told.
pub(crate) fn result(order: &Order) -> StageResult {
    match order.spec.kind() {
        StageKind::Candidate(TOO_MANY) => testing::infeasible(TOO_MANY),
        _ => testing::result(order),
    }
}
