//! Points in time at which something must be looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use nettailor_domain::ids::{Seat, StageKey, WorkerId};

/// What is to be looked at. Whoever handles one checks the state: a timer never decides alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A worker may have been silent, or away, for too long. Whether it was is a matter of listened time, of which no more can
    /// have passed than has elapsed.
    Lease(WorkerId),
    /// An attempt that lost ranks may have waited for them for too long.
    Regroup(StageKey),
    /// A stage's wait before a retry ends.
    BackOff(StageKey),
    /// A running stage's deadline.
    Deadline(StageKey),
    /// A running stage was asked to yield.
    Yield(StageKey),
    /// A job's deadline, by its sequence number.
    JobDeadline(u64),
    /// The end of a job's pause.
    Resume(u64),
    /// A worker was set aside for long enough.
    Admit(WorkerId),
    /// Somebody may be entitled to slots that others have.
    Preempt,
    /// What users have used ages.
    Age,
    /// A stop was sent and the rank's end was not reported.
    StopAgain(WorkerId, Seat),
}

/// Armed timers in order of time. Times are elapsed time as in [`crate::event::Now`]. Whoever arms one keeps its time,
/// so that it can be disarmed: no dead timers pile up.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Duration, Timer)>);

impl Timers {
    pub(crate) fn arm(&mut self, at: Duration, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn disarm(&mut self, at: Duration, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// Time of the earliest.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out every timer due at `now`, the earliest first.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<Timer> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            due.extend(self.0.pop_first().map(|(_, timer)| timer));
        }
        due
    }
}
