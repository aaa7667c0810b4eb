//! What happened to a job: its history, and what its stages logged. One line each.

use chrono::{DateTime, Utc};
use nettailor_proto::v1;
use serde::Serialize;

use crate::quantity::{moment, show_moment};

/// Something that happened to a job or to one of its stages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct HistoryView {
    pub(crate) time: Option<DateTime<Utc>>,
    /// Kind of the stage; null for the job itself.
    pub(crate) stage: Option<String>,
    /// Number of the attempt; null for none.
    pub(crate) attempt: Option<u32>,
    /// `submitted`, `ready`, `started`, `checkpoint`, `ended`, `waits`, `done`, ...
    pub(crate) what: String,
    /// Why, in words.
    pub(crate) reason: String,
}

impl From<v1::HistoryEvent> for HistoryView {
    fn from(event: v1::HistoryEvent) -> Self {
        Self {
            time: moment(event.time_ms),
            stage: Some(event.stage).filter(|stage| !stage.is_empty()),
            attempt: Some(event.attempt).filter(|&attempt| attempt > 0),
            what: event.what,
            reason: event.reason,
        }
    }
}

impl std::fmt::Display for HistoryView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = self.stage.as_deref().unwrap_or("job");
        let subject = match self.attempt {
            Some(attempt) => format!("{stage}#{attempt}"),
            None => stage.to_owned(),
        };
        let line = format!(
            "{}  {subject:<15}  {:<10}  {}",
            show_moment(self.time),
            self.what,
            self.reason
        );
        f.write_str(line.trim_end())
    }
}

/// One line of a stage's log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LogView {
    pub(crate) stage: String,
    pub(crate) attempt: u32,
    pub(crate) rank: u32,
    pub(crate) worker: String,
    /// As the worker's clock said.
    pub(crate) time: Option<DateTime<Utc>>,
    pub(crate) line: String,
}

impl From<v1::LogLine> for LogView {
    fn from(line: v1::LogLine) -> Self {
        Self {
            stage: line.stage,
            attempt: line.attempt,
            rank: line.rank,
            worker: line.worker,
            time: moment(line.time_ms),
            line: line.line,
        }
    }
}

impl std::fmt::Display for LogView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = show_moment(self.time);
        write!(
            f,
            "{time} {}#{}/{} {} | {}",
            self.stage, self.attempt, self.rank, self.worker, self.line
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_a_line_each() {
        let event = |stage: &str, attempt, what: &str, reason: &str| {
            HistoryView::from(v1::HistoryEvent {
                time_ms: 1_763_878_482_000,
                stage: stage.into(),
                attempt,
                what: what.into(),
                reason: reason.into(),
            })
        };
        let lines = [
            event("", 0, "submitted", ""),
            event("candidate(12)", 2, "checkpoint", "epoch 3"),
        ];
        assert_eq!(
            lines.map(|line| line.to_string()),
            [
                "2025-11-23 06:14:42Z  job              submitted",
                "2025-11-23 06:14:42Z  candidate(12)#2  checkpoint  epoch 3"
            ]
        );
        assert_eq!(
            serde_json::to_value(event("", 0, "submitted", "")).expect("JSON"),
            serde_json::json!({
                "time": "2025-11-23T06:14:42Z", "stage": null, "attempt": null, "what": "submitted", "reason": "",
            })
        );
    }

    #[test]
    fn a_log_line_names_its_attempt_and_rank() {
        let line = v1::LogLine {
            stage: "teacher".into(),
            attempt: 2,
            worker: "one".into(),
            time_ms: 1_000,
            line: "epoch 1".into(),
            rank: 1,
        };
        assert_eq!(
            LogView::from(line).to_string(),
            "1970-01-01 00:00:01Z teacher#2/1 one | epoch 1"
        );
    }
}
