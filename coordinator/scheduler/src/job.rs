//! A job in memory.

use crate::record::{JobRecord, JobState, JobStatus};

/// A job: what was submitted, and where it stands.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) record: JobRecord,
    pub(crate) status: JobStatus,
}

impl Job {
    /// One that was submitted now.
    pub(crate) fn new(record: JobRecord) -> Self {
        let status = JobStatus {
            sequence: record.sequence,
            stages_run: 0,
            state: JobState::Active,
        };
        Self { record, status }
    }

    /// Whether it is not final.
    pub(crate) fn is_active(&self) -> bool {
        self.status.state == JobState::Active
    }
}
