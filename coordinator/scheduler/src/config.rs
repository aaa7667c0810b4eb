//! The scheduler's settings.

use std::time::Duration;

use nettailor_domain::session::{GRACE, REATTACH, WORKER_SILENCE};

/// Settings, the same for every job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// A worker that says nothing for so long is disconnected. Several heartbeats fit in.
    pub silence: Duration,
    /// A worker that is disconnected has this long to come back before its attempts are lost.
    pub reattach: Duration,
    /// After a restart, workers that ran attempts are waited for this long: they have to notice that the coordinator is
    /// back, and it may have come back on another machine. So are workers that the coordinator has lost by its own doing.
    pub restore_grace: Duration,
    /// More than half of the workers, and two at least, that go within this time are lost by the coordinator's own doing: its
    /// network, not theirs.
    pub together: Duration,
    /// A coordinator that did not listen for so long has stalled: streams that break within as long afterwards broke by its
    /// own doing.
    pub stall: Duration,
    /// Wait before the first retry after a fault; doubles with each further fault.
    pub retry_first: Duration,
    /// Longest wait before a retry after a fault.
    pub retry_longest: Duration,
    /// Wait before a stage is placed again after a worker gave it back, or was lost, but for the first time.
    pub loss_wait: Duration,
    /// A stage that was lost with its worker this often without getting on is left alone for a while: it may be what kills them.
    pub losses_in_a_row: u32,
    /// For how long the first time; doubles with each further loss.
    pub set_aside_first: Duration,
    /// For how long at most.
    pub set_aside_longest: Duration,
    /// For how long a worker is left alone on which several stages broke in a row; doubles with each time in a row.
    pub break_first: Duration,
    /// For how long at most.
    pub break_longest: Duration,
    /// An attempt that is to make room is waited for to leave a checkpoint; after this long it is stopped in any case.
    pub yield_within: Duration,
    /// Somebody who is entitled to slots that others have waits for so long before these are asked to make room; who does has run
    /// for so long at least.
    pub preempt_patience: Duration,
    /// What made room is not asked to again before so much time has passed.
    pub immunity: Duration,
    /// A stop that was sent this often and not obeyed gives the slot up as lost, and sets the worker aside.
    pub stops: u32,
    /// A stop that was not followed by the attempt's end is sent again after this long.
    pub stop_again: Duration,
    /// A stage that needs more slots than are free lets later stages start before it for this long, counted from the first
    /// that did; then slots that become free are kept for it.
    pub gang_patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            silence: WORKER_SILENCE,
            reattach: REATTACH,
            restore_grace: GRACE,
            together: Duration::from_secs(5),
            stall: Duration::from_secs(1),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(60),
            loss_wait: Duration::from_secs(1),
            losses_in_a_row: 3,
            set_aside_first: Duration::from_secs(60),
            set_aside_longest: Duration::from_secs(3600),
            break_first: Duration::from_secs(600),
            break_longest: Duration::from_secs(3600),
            yield_within: Duration::from_secs(600),
            preempt_patience: Duration::from_secs(60),
            immunity: Duration::from_secs(1800),
            stops: 5,
            stop_again: Duration::from_secs(30),
            gang_patience: Duration::from_secs(60),
        }
    }
}
