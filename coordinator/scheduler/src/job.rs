//! A job in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::record::{JobRecord, JobState, JobStatus};

/// A job: what was submitted, and where it stands.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) record: Arc<JobRecord>,
    pub(crate) status: JobStatus,
}

impl Job {
    /// One that was submitted, with this priority and deadline.
    pub(crate) fn new(record: Arc<JobRecord>, priority: i8, deadline: Duration) -> Self {
        let status = JobStatus {
            sequence: record.sequence,
            priority,
            deadline,
            paused: None,
            stages_run: 0,
            state: JobState::Active,
        };
        Self { record, status }
    }

    /// Whether it asks for its stages: it is not final, and not paused.
    pub(crate) fn asks(&self) -> bool {
        self.is_active() && self.status.paused.is_none()
    }

    /// Whether it is not final.
    pub(crate) fn is_active(&self) -> bool {
        self.status.state == JobState::Active
    }
}
