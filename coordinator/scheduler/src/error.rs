//! What can be refused.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{JobId, StageKey, TaskName, UserName, WorkerId};
use nettailor_domain::stage::StageKind;

/// Why a submission or a cancellation was refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The id is taken.
    #[error("job id `{0}` is taken: submit under a fresh id")]
    DuplicateJob(JobId),
    /// No such job.
    #[error("no job `{0}`: list the jobs to see their ids")]
    UnknownJob(JobId),
    /// The job is over.
    #[error("job `{0}` is over: only live jobs can be changed; `jobs retry` does its work once more")]
    JobOver(JobId),
    /// The job is not over.
    #[error("job `{0}` is not over: only ended jobs are retried")]
    JobLive(JobId),
    /// The job has no such stage.
    #[error("job `{job}` has no stage {stage}: expected one of {kinds}")]
    NoSuchStage {
        /// Which job.
        job: JobId,
        /// As asked for.
        stage: StageKind,
        /// Those it has.
        kinds: String,
    },
    /// The guarantee could never be met.
    #[error(
        "user `{user}` cannot be guaranteed {guarantee} slots with a limit of {limit}: raise the limit, or lower the guarantee"
    )]
    Unmeetable {
        /// Whose.
        user: UserName,
        /// Slots that others make room for.
        guarantee: u32,
        /// Most slots.
        limit: u32,
    },
    /// Nothing is known of the worker.
    #[error("no worker `{0}`: list the workers to see their names")]
    UnknownWorker(WorkerId),
    /// A candidate removes more main blocks than there are.
    #[error(
        "task `{task}`, candidates.k: {k} main blocks cannot be removed from {arch}, expected 0 to {layers}"
    )]
    InvalidK {
        /// Of which task.
        task: TaskName,
        /// As asked for.
        k: usize,
        /// The backbone's architecture.
        arch: BackboneName,
        /// How many there are.
        layers: usize,
    },
    /// There is nothing to choose from.
    #[error(
        "task `{0}`, candidates.k: the list is empty, expected at least one number of main blocks to remove"
    )]
    NoCandidates(TaskName),
}

/// Why a job was not found by the start of its id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No id starts like that.
    #[error("no job's id starts with `{0}`: list the jobs to see their ids")]
    NotFound(String),
    /// Several do.
    #[error(
        "several jobs' ids start with `{prefix}`, among them `{first}` and `{second}`: give more characters"
    )]
    Ambiguous {
        /// As asked for.
        prefix: String,
        /// One of them.
        first: JobId,
        /// Another.
        second: JobId,
    },
}

/// Why records do not make a scheduler. They were damaged or written by another program; nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Two records under one key.
    #[error("two records of {0}: expected one")]
    Duplicate(String),
    /// Two jobs in one place of the order of submission.
    #[error("jobs `{first}` and `{second}` both have sequence number {sequence}")]
    SameSequence {
        /// One of them.
        first: JobId,
        /// The other.
        second: JobId,
        /// Their number.
        sequence: u64,
    },
    /// A job's kept stages are not those that it plans.
    #[error("job `{job}` was kept with {kept} stages and plans {planned}")]
    OtherPlan {
        /// Which job.
        job: JobId,
        /// As kept.
        kept: usize,
        /// As planned from what was submitted.
        planned: usize,
    },
    /// Where a job stands was kept, and not the job.
    #[error("the job with sequence number {0} has no record")]
    UnknownJob(u64),
    /// Where a stage stands was kept, and no job that plans it.
    #[error("stage {0} is planned by no job")]
    UnknownStage(StageKey),
    /// A task's model versions have a gap.
    #[error("task `{task}` has {found} models, but its newest is version {newest}")]
    VersionGap {
        /// Which task.
        task: TaskName,
        /// Models found.
        found: usize,
        /// Version of the newest.
        newest: u32,
    },
}
