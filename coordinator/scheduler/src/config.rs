//! The scheduler's settings.

use std::time::Duration;

use nettailor_domain::session::LEASE;

/// Settings, the same for every job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// A worker that is silent for this long is disconnected; a disconnected worker's attempts are lost after this
    /// long. Several heartbeats fit in.
    pub lease: Duration,
    /// After a restart, workers that ran attempts are waited for this long: they have to notice that the coordinator is
    /// back, and it may have come back on another machine.
    pub restore_grace: Duration,
    /// Wait before the first retry after a fault; doubles with each further fault.
    pub retry_first: Duration,
    /// Longest wait before a retry after a fault.
    pub retry_longest: Duration,
    /// Wait before a stage is placed again after its worker was lost, or gave it back.
    pub loss_wait: Duration,
    /// A stage that was lost with its worker this often without getting on is left alone for a while: it may be what kills them.
    pub losses_in_a_row: u32,
    /// For how long the first time; doubles with each further loss.
    pub set_aside_first: Duration,
    /// For how long at most.
    pub set_aside_longest: Duration,
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
            lease: LEASE,
            restore_grace: Duration::from_secs(60),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(60),
            loss_wait: Duration::from_secs(1),
            losses_in_a_row: 3,
            set_aside_first: Duration::from_secs(60),
            set_aside_longest: Duration::from_secs(3600),
            yield_within: Duration::from_secs(600),
            preempt_patience: Duration::from_secs(60),
            immunity: Duration::from_secs(1800),
            stops: 5,
            stop_again: Duration::from_secs(30),
            gang_patience: Duration::from_secs(60),
        }
    }
}
