//! Jobs and their stages.

use chrono::{DateTime, Utc};
use comfy_table::Color;
use nettailor_domain::trainer::Progress;
use nettailor_proto::v1;
use serde::Serialize;

use super::short;
use crate::output::{Column, Detail, Row, Sheet, fields, table};
use crate::quantity::{moment, plural, seconds, show_moment};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobState {
    /// No stage has started.
    Queued,
    /// Stages are being run.
    Running,
    /// The model is in the registry.
    Succeeded,
    /// A stage could not be done.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// It asks for nothing until it is resumed.
    Paused,
    /// A state that this CLI is too old to know.
    #[value(skip)]
    Unknown,
}

impl JobState {
    /// Whether nothing more will happen.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// As printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
            Self::Unknown => "unknown",
        }
    }

    fn colour(self) -> Option<Color> {
        match self {
            Self::Queued | Self::Unknown => None,
            Self::Running => Some(Color::Blue),
            Self::Succeeded => Some(Color::Green),
            Self::Failed => Some(Color::Red),
            Self::Cancelled | Self::Paused => Some(Color::Yellow),
        }
    }
}

impl From<v1::JobState> for JobState {
    fn from(state: v1::JobState) -> Self {
        match state {
            v1::JobState::Unspecified => Self::Unknown,
            v1::JobState::Queued => Self::Queued,
            v1::JobState::Running => Self::Running,
            v1::JobState::Succeeded => Self::Succeeded,
            v1::JobState::Failed => Self::Failed,
            v1::JobState::Cancelled => Self::Cancelled,
            v1::JobState::Paused => Self::Paused,
        }
    }
}

impl From<JobState> for v1::JobState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Unknown => Self::Unspecified,
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
            JobState::Paused => Self::Paused,
        }
    }
}

/// Where a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StageState {
    /// A parent is not finished.
    Waiting,
    /// Ready, no slot yet or backing off.
    Queued,
    /// An attempt is on a worker.
    Running,
    /// Finished.
    Done,
    /// Given up.
    Failed,
    /// No live job asks for it.
    Idle,
    /// A state that this CLI is too old to know.
    Unknown,
}

impl StageState {
    /// As printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
        }
    }

    fn colour(self) -> Option<Color> {
        match self {
            Self::Running => Some(Color::Blue),
            Self::Done => Some(Color::Green),
            Self::Failed => Some(Color::Red),
            Self::Waiting | Self::Queued | Self::Idle | Self::Unknown => None,
        }
    }
}

impl From<v1::StageState> for StageState {
    fn from(state: v1::StageState) -> Self {
        match state {
            v1::StageState::Unspecified => Self::Unknown,
            v1::StageState::Waiting => Self::Waiting,
            v1::StageState::Queued => Self::Queued,
            v1::StageState::Running => Self::Running,
            v1::StageState::Done => Self::Done,
            v1::StageState::Failed => Self::Failed,
            v1::StageState::Idle => Self::Idle,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) state: JobState,
    /// Why it is in this state, in words.
    pub(crate) reason: String,
    pub(crate) submitted: Option<DateTime<Utc>>,
    pub(crate) finished: Option<DateTime<Utc>>,
    /// From submission to the end; null until then.
    pub(crate) seconds: Option<f64>,
    /// Version of the published model; null until there is one.
    pub(crate) model_version: Option<u32>,
    /// Stages executed for this job, not found finished.
    pub(crate) stages_run: u32,
    /// Who pays for it.
    pub(crate) user: String,
    /// Among the jobs of its user those of higher priority go first.
    pub(crate) priority: i32,
    /// What kind of failure ended it; null unless it failed.
    pub(crate) failure_class: Option<String>,
    /// The job that this one does once more; null for none.
    pub(crate) retry_of: Option<String>,
    /// Parents before children. Absent in listings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stages: Vec<StageView>,
}

impl From<v1::Job> for JobView {
    fn from(job: v1::Job) -> Self {
        let finished = moment(job.finished_ms);
        Self {
            state: job.state().into(),
            id: job.id,
            task: job.task,
            reason: job.reason,
            submitted: moment(job.submitted_ms),
            finished,
            seconds: finished.map(|_| job.finished_ms.saturating_sub(job.submitted_ms) as f64 / 1e3),
            model_version: Some(job.model_version).filter(|&version| version > 0),
            stages_run: job.stages_run,
            user: job.user,
            priority: job.priority,
            failure_class: Some(job.failure_class).filter(|class| !class.is_empty()),
            retry_of: Some(job.retry_of).filter(|id| !id.is_empty()),
            stages: job.stages.into_iter().map(StageView::from).collect(),
        }
    }
}

impl JobView {
    /// The published model, `task@version`.
    pub(crate) fn model(&self) -> Option<String> {
        self.model_version
            .map(|version| format!("{}@{version}", self.task))
    }

    /// What to type after the program's name to see why it failed.
    pub(crate) fn logs_command(&self) -> String {
        let failed = self.stages.iter().find(|stage| stage.state == StageState::Failed);
        let stage = failed.map_or_else(String::new, |stage| format!(" --stage '{}'", stage.kind));
        format!("jobs logs {}{stage}", self.id)
    }

    /// How it stands, in words: `succeeded, digits@1 (3 stages run)`, `failed: ...`.
    pub(crate) fn ending(&self) -> String {
        let state = self.state.as_str();
        match (self.state, self.model()) {
            (JobState::Succeeded, Some(model)) => {
                format!("succeeded, {model} ({} run)", plural(self.stages_run, "stage"))
            }
            _ if self.reason.is_empty() => state.to_owned(),
            // Reasons begin with the state where that reads well.
            _ if self.reason.starts_with(state) => self.reason.clone(),
            _ => format!("{state}: {}", self.reason),
        }
    }
}

impl Row for JobView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("ID", |job| job.id.clone()),
        Column::new("TASK", |job| job.task.clone()),
        Column::new("USER", |job| job.user.clone()),
        Column::new("STATE", |job: &Self| job.state.as_str().to_owned()).colour(|job| job.state.colour()),
        Column::new("MODEL", |job| job.model().unwrap_or_else(|| "-".to_owned())),
        Column::number("STAGES RUN", |job| job.stages_run.to_string()),
        Column::new("SUBMITTED", |job| show_moment(job.submitted)),
        Column::number("TOOK", |job| job.seconds.map_or_else(|| "-".to_owned(), seconds)),
        Column::new("REASON", |job: &Self| job.reason.clone()).wide(),
    ];

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl Detail for JobView {
    fn names(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn describe(&self, sheet: &Sheet) -> String {
        let head = fields(&[
            ("job", self.id.clone()),
            ("task", self.task.clone()),
            ("user", self.user.clone()),
            ("priority", self.priority.to_string()),
            ("retry of", self.retry_of.clone().unwrap_or_default()),
            ("state", self.state.as_str().to_owned()),
            ("reason", self.reason.clone()),
            ("failure", self.failure_class.clone().unwrap_or_default()),
            ("model", self.model().unwrap_or_else(|| "-".to_owned())),
            ("submitted", show_moment(self.submitted)),
            ("finished", show_moment(self.finished)),
            ("took", self.seconds.map_or_else(|| "-".to_owned(), seconds)),
            ("stages run", self.stages_run.to_string()),
        ]);
        if self.stages.is_empty() {
            head
        } else {
            format!("{head}\n{}", table(&self.stages, sheet))
        }
    }
}

/// One stage of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StageView {
    /// 64 hexadecimal digits.
    pub(crate) key: String,
    /// `teacher`, `student`, `candidate(6)`, `select`.
    pub(crate) kind: String,
    pub(crate) state: StageState,
    /// Why it is in this state, in words.
    pub(crate) reason: String,
    /// Number of the latest attempt; 0 before the first.
    pub(crate) attempt: u32,
    /// Workers of a running or finished attempt, by rank; of one that failed or was lost, that on which it ended.
    pub(crate) workers: Vec<String>,
    /// Ranks of a running or finished attempt; 0 where there is none, or it is not known any more.
    pub(crate) world_size: u32,
    /// Epochs that are behind the checkpoint from which the next attempt would go on; null where there is none.
    pub(crate) checkpoint_epoch: Option<u32>,
    /// Latest report of a running attempt.
    pub(crate) progress: Option<Progress>,
    /// What a finished stage found, in one line.
    pub(crate) summary: String,
    /// Wall time of the finished attempt; null until then.
    pub(crate) seconds: Option<f64>,
    /// The job found it done; it was not run for it.
    pub(crate) reused: bool,
}

impl From<v1::Stage> for StageView {
    fn from(stage: v1::Stage) -> Self {
        let state = StageState::from(stage.state());
        Self {
            state,
            key: stage.key,
            kind: stage.kind,
            reason: stage.reason,
            attempt: stage.attempt,
            workers: stage.workers,
            world_size: stage.world_size,
            checkpoint_epoch: stage.checkpoint_epoch,
            progress: stage.progress.map(Progress::from),
            summary: stage.summary,
            seconds: Some(stage.seconds).filter(|_| state == StageState::Done),
            reused: stage.reused,
        }
    }
}

impl StageView {
    /// Where it runs or ran: `one`, or `one x2, two` where two of three ranks are on one worker.
    pub(crate) fn hosts(&self) -> String {
        let mut ranks: Vec<(&str, u32)> = Vec::new();
        for worker in &self.workers {
            match ranks.iter_mut().find(|(known, _)| known == worker) {
                Some((_, number)) => *number += 1,
                None => ranks.push((worker, 1)),
            }
        }
        let words = ranks.into_iter().map(|(worker, number)| match number {
            1 => worker.to_owned(),
            number => format!("{worker} x{number}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// What matters most now: the result, the progress or the reason.
    pub(crate) fn detail(&self) -> String {
        match (self.state, &self.progress) {
            (StageState::Done, _) => self.summary.clone(),
            (StageState::Running, Some(progress)) => crate::follow::text::progress(progress),
            _ => self.reason.clone(),
        }
    }
}

impl Row for StageView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("STAGE", |stage| stage.kind.clone()),
        Column::new("STATE", |stage: &Self| stage.state.as_str().to_owned())
            .colour(|stage| stage.state.colour()),
        Column::number("ATTEMPT", |stage| stage.attempt.to_string()),
        Column::number("RANKS", |stage| match stage.world_size {
            0 => "-".to_owned(),
            ranks => ranks.to_string(),
        }),
        Column::new("WORKERS", |stage| stage.hosts()),
        Column::number("TOOK", |stage| {
            stage.seconds.map_or_else(|| "-".to_owned(), seconds)
        }),
        Column::new("KEY", |stage: &Self| short(&stage.key)).wide(),
        Column::new("DETAIL", |stage| stage.detail()),
    ];

    fn name(&self) -> String {
        self.key.clone()
    }
}

#[cfg(test)]
mod tests;
