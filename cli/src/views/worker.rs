//! Workers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use comfy_table::Color;
use nettailor_proto::v1;
use serde::Serialize;

use crate::output::{Column, Detail, Row, Sheet, fields};
use crate::quantity::{bytes, moment, share, show_moment};

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkerState {
    /// Takes work.
    Ready,
    /// Takes no new work.
    Draining,
    /// No session; its attempts are waited for, for a moment.
    Disconnected,
    /// Somebody took it out of use.
    Cordoned,
    /// It broke several stages, and is left alone for a while.
    SetAside,
    /// A state that this CLI is too old to know.
    Unknown,
}

impl WorkerState {
    /// As printed for people.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Disconnected => "disconnected",
            Self::Cordoned => "cordoned",
            Self::SetAside => "set aside",
            Self::Unknown => "unknown",
        }
    }

    fn colour(self) -> Option<Color> {
        match self {
            Self::Ready => Some(Color::Green),
            Self::Draining | Self::Disconnected | Self::Cordoned | Self::SetAside => Some(Color::Yellow),
            Self::Unknown => None,
        }
    }
}

/// A worker agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct WorkerView {
    pub(crate) name: String,
    pub(crate) state: WorkerState,
    /// Why it is in this state, in words.
    pub(crate) reason: String,
    /// What jobs may ask for.
    pub(crate) labels: BTreeMap<String, String>,
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
    /// Bytes of the inputs of what was placed on it.
    pub(crate) placed_bytes: u64,
    /// How many of these it held already.
    pub(crate) reused_bytes: u64,
}

impl From<v1::Worker> for WorkerView {
    fn from(worker: v1::Worker) -> Self {
        let state = match worker.state() {
            v1::WorkerState::Ready => WorkerState::Ready,
            v1::WorkerState::Draining => WorkerState::Draining,
            v1::WorkerState::Disconnected => WorkerState::Disconnected,
            v1::WorkerState::Cordoned => WorkerState::Cordoned,
            v1::WorkerState::SetAside => WorkerState::SetAside,
            v1::WorkerState::Unspecified => WorkerState::Unknown,
        };
        Self {
            name: worker.name,
            state,
            reason: worker.reason,
            labels: worker.labels.into_iter().collect(),
            slots: worker.slots,
            slots_used: worker.slots_used,
            threads_per_slot: worker.threads_per_slot,
            device: worker.device,
            running: worker.running,
            cached_blobs: worker.cached_blobs,
            last_seen: moment(worker.last_seen_ms),
            version: worker.version,
            placed_bytes: worker.placed_bytes,
            reused_bytes: worker.reused_bytes,
        }
    }
}

impl WorkerView {
    fn slots(&self) -> String {
        format!("{}/{}", self.slots_used, self.slots)
    }

    /// `gpu=h100,zone=b`; a dash for none.
    fn labels(&self) -> String {
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={value}"));
        or_dash(labels.collect::<Vec<_>>().join(","))
    }

    fn running(&self) -> String {
        or_dash(self.running.join("; "))
    }

    /// How much of what its work needed was there already: `93 % of 1.2 GiB`; a dash before the first.
    fn reused(&self) -> String {
        match self.placed_bytes {
            0 => "-".to_owned(),
            placed => format!("{} of {}", share(self.reused_bytes, placed), bytes(placed)),
        }
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

impl Row for WorkerView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("NAME", |worker| worker.name.clone()),
        Column::new("STATE", |worker: &Self| worker.state.as_str().to_owned())
            .colour(|worker| worker.state.colour()),
        Column::number("SLOTS", Self::slots),
        Column::number("THREADS", |worker| worker.threads_per_slot.to_string()),
        Column::new("DEVICE", |worker| worker.device.clone()),
        Column::new("LABELS", Self::labels),
        Column::new("REUSED", Self::reused),
        Column::new("RUNNING", Self::running),
        Column::number("CACHED", |worker: &Self| worker.cached_blobs.to_string()).wide(),
        Column::new("LAST SEEN", |worker: &Self| show_moment(worker.last_seen)).wide(),
        Column::new("VERSION", |worker: &Self| worker.version.clone()).wide(),
        Column::new("REASON", |worker: &Self| worker.reason.clone()).wide(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Detail for WorkerView {
    fn names(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn describe(&self, _: &Sheet) -> String {
        fields(&[
            ("worker", self.name.clone()),
            ("state", self.state.as_str().to_owned()),
            ("reason", self.reason.clone()),
            ("slots", format!("{} used", self.slots())),
            ("device", self.device.clone()),
            ("labels", self.labels()),
            ("running", self.running.join("\n")),
            ("last seen", show_moment(self.last_seen)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table;

    fn worker() -> WorkerView {
        WorkerView::from(v1::Worker {
            name: "w1".into(),
            state: v1::WorkerState::Cordoned.into(),
            slots: 2,
            slots_used: 1,
            threads_per_slot: 4,
            device: "cpu".into(),
            running: vec!["student of digits-abc".into()],
            cached_blobs: 3,
            last_seen_ms: 1_763_878_482_000,
            version: "0.1.0".into(),
            labels: [("zone", "b"), ("gpu", "h100")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            reason: "its disk is replaced".into(),
            placed_bytes: 1_288_490_189,
            reused_bytes: 1_198_295_876,
        })
    }

    #[test]
    fn workers_as_a_table() {
        let fresh = WorkerView::from(v1::Worker {
            name: "w2".into(),
            state: v1::WorkerState::SetAside.into(),
            slots: 1,
            threads_per_slot: 8,
            device: "cpu".into(),
            ..v1::Worker::default()
        });
        assert_eq!(
            table(&[worker(), fresh], &Sheet::default()),
            "\
NAME  STATE      SLOTS  THREADS  DEVICE  LABELS           REUSED           RUNNING
w1    cordoned     1/2        4  cpu     gpu=h100,zone=b  93 % of 1.2 GiB  student of digits-abc
w2    set aside    0/1        8  cpu     -                -                -
"
        );
    }

    #[test]
    fn a_worker_in_full() {
        assert_eq!(
            worker().describe(&Sheet::default()),
            "\
worker:     w1
state:      cordoned
reason:     its disk is replaced
slots:      1/2 used
device:     cpu
labels:     gpu=h100,zone=b
running:    student of digits-abc
last seen:  2025-11-23 06:14:42Z
"
        );
    }

    #[test]
    fn the_keys_of_json_are_those_documented() {
        let json = serde_json::to_value(WorkerView {
            state: WorkerState::SetAside,
            ..worker()
        });
        assert_eq!(
            json.expect("a view is JSON"),
            serde_json::json!({
                "name": "w1", "state": "set_aside", "reason": "its disk is replaced",
                "labels": {"gpu": "h100", "zone": "b"}, "slots": 2, "slots_used": 1, "threads_per_slot": 4,
                "device": "cpu", "running": ["student of digits-abc"], "cached_blobs": 3,
                "last_seen": "2025-11-23T06:14:42Z", "version": "0.1.0",
                "placed_bytes": 1_288_490_189, "reused_bytes": 1_198_295_876,
            })
        );
    }
}
