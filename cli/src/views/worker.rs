//! Workers.

use chrono::{DateTime, Utc};
use comfy_table::Color;
use nettailor_proto::v1;
use serde::Serialize;

use crate::output::{Column, Row};
use crate::quantity::{moment, show_moment};

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerState {
    /// Takes work.
    Ready,
    /// Takes no new work.
    Draining,
    /// No session; its attempts are waited for until their lease ends.
    Disconnected,
    /// A state that this CLI is too old to know.
    Unknown,
}

impl WorkerState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Disconnected => "disconnected",
            Self::Unknown => "unknown",
        }
    }
}

/// A worker agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct WorkerView {
    pub(crate) name: String,
    pub(crate) state: WorkerState,
    pub(crate) slots: u32,
    pub(crate) slots_used: u32,
    pub(crate) threads_per_slot: u32,
    /// `cpu`, or the name of the GPU.
    pub(crate) device: String,
    /// What it runs, in words.
    pub(crate) running: Vec<String>,
    pub(crate) cached_blobs: u64,
    pub(crate) last_seen: Option<DateTime<Utc>>,
    pub(crate) version: String,
}

impl From<v1::Worker> for WorkerView {
    fn from(worker: v1::Worker) -> Self {
        let state = match worker.state() {
            v1::WorkerState::Ready => WorkerState::Ready,
            v1::WorkerState::Draining => WorkerState::Draining,
            v1::WorkerState::Disconnected => WorkerState::Disconnected,
            v1::WorkerState::Unspecified => WorkerState::Unknown,
        };
        Self {
            name: worker.name,
            state,
            slots: worker.slots,
            slots_used: worker.slots_used,
            threads_per_slot: worker.threads_per_slot,
            device: worker.device,
            running: worker.running,
            cached_blobs: worker.cached_blobs,
            last_seen: moment(worker.last_seen_ms),
            version: worker.version,
        }
    }
}

impl Row for WorkerView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("NAME", |worker| worker.name.clone()),
        Column::new("STATE", |worker: &Self| worker.state.as_str().to_owned()).colour(|worker| match worker
            .state
        {
            WorkerState::Ready => Some(Color::Green),
            WorkerState::Draining | WorkerState::Disconnected => Some(Color::Yellow),
            WorkerState::Unknown => None,
        }),
        Column::number("SLOTS", |worker| {
            format!("{}/{}", worker.slots_used, worker.slots)
        }),
        Column::number("THREADS", |worker| worker.threads_per_slot.to_string()),
        Column::new("DEVICE", |worker| worker.device.clone()),
        Column::new("RUNNING", |worker| {
            if worker.running.is_empty() {
                "-".to_owned()
            } else {
                worker.running.join("; ")
            }
        }),
        Column::number("CACHED", |worker: &Self| worker.cached_blobs.to_string()).wide(),
        Column::new("LAST SEEN", |worker: &Self| show_moment(worker.last_seen)).wide(),
        Column::new("VERSION", |worker: &Self| worker.version.clone()).wide(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }
}
