//! Small pieces of the reasons that people read.

use std::time::Duration;

use nettailor_domain::ids::WorkerId;
use nettailor_domain::trainer::FailureClass;

/// A failure class as users meet it elsewhere.
pub(crate) fn class(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Input => "input",
        FailureClass::Resources => "resources",
        FailureClass::Internal => "internal",
        FailureClass::Lost => "lost",
        FailureClass::Deadline => "deadline",
    }
}

/// The time of day of a point in time given in milliseconds since 1970: `14:03:22 UTC`.
pub(crate) fn time_of_day(wall_ms: u64) -> String {
    let second = wall_ms / 1000 % 86_400;
    format!(
        "{:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Time from `now` until `then`, in whole seconds, rounded up: `4 s`.
pub(crate) fn until(then: Duration, now: Duration) -> String {
    format!("{} s", then.saturating_sub(now).as_millis().div_ceil(1000))
}

/// `1 attempt`, `2 attempts`.
pub(crate) fn count(number: u32, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Bytes as people read them: `13.0 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = number as f64;
    let mut unit = "B";
    for larger in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{number} B")
    } else {
        format!("{amount:.1} {unit}")
    }
}

/// `a slot`, `2 slots`.
pub(crate) fn some(number: u32, noun: &str) -> String {
    if number == 1 {
        format!("a {noun}")
    } else {
        count(number, noun)
    }
}

/// The reason that somebody gave, or that there is none but the request.
pub(crate) fn why(reason: &str) -> &str {
    if reason.is_empty() { "on request" } else { reason }
}

/// How a worker was taken out of use, and why: `drained: new memory`.
pub(crate) fn cordoned(drain: bool, reason: &str) -> String {
    let what = if drain { "drained" } else { "cordoned" };
    format!("{what}: {}", why(reason))
}

/// The workers of a gang, given by rank: `a`, or `a x2, b` where ranks 0 and 1 are on one worker.
pub(crate) fn gang<'a>(workers: impl IntoIterator<Item = &'a WorkerId>) -> String {
    let mut ranks: Vec<(&WorkerId, u32)> = Vec::new();
    for worker in workers {
        match ranks.iter_mut().find(|(known, _)| *known == worker) {
            Some((_, number)) => *number += 1,
            None => ranks.push((worker, 1)),
        }
    }
    let words = ranks.into_iter().map(|(worker, number)| match number {
        1 => worker.to_string(),
        number => format!("{worker} x{number}"),
    });
    words.collect::<Vec<_>>().join(", ")
}
