//! Rows: what is kept, what they are called and how they are written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::record::{Record, RecordKey, Subject};
use serde::de::DeserializeOwned;

/// Version of the values; their first byte. 4: what is submitted and where it stands are rows of their own, stages without
/// their specifications.
pub const VALUE_VERSION: u8 = 4;

/// One thing to keep.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Of the scheduler.
    Record(Record),
    /// An imported backbone.
    Backbone(BackboneRecord),
    /// How far the running attempt of a stage is.
    Progress(Attempt, Progress),
    /// For how long the coordinator has run, all its processes together.
    Clock(Duration),
    /// How many commits there were that go into the journal: the number of the latest.
    Journalled(u64),
}

/// Name of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// Of a record of the scheduler.
    Record(RecordKey),
    /// Of a backbone.
    Backbone(BackboneName),
    /// Of a stage's progress.
    Progress(StageKey),
    /// Of the time.
    Clock,
    /// Of the number of commits.
    Journalled,
}

/// A change to what is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Keep this, in place of an earlier row of the same name.
    Put(Row),
    /// Keep no such row.
    Remove(RowKey),
}

/// A change and the bytes of its row, which the store and the journal write alike and do not copy.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// What changes.
    pub change: Change,
    /// Key of the row.
    pub key: Bytes,
    /// Its value; none of a row that is removed.
    pub value: Option<Bytes>,
}

impl From<Change> for Encoded {
    fn from(change: Change) -> Self {
        let (key, value) = match &change {
            // They are kept for a while: without what was reserved for more.
            Change::Put(row) => (row.key(), Some(row.encode().into_boxed_slice().into())),
            Change::Remove(key) => (key.clone(), None),
        };
        Self {
            change,
            key: key.encode().into(),
            value,
        }
    }
}

/// Why bytes are not a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// They were written by an earlier version.
    Older(u8),
    /// They were written by a later version.
    Newer(u8),
    /// They are something else: what, in words.
    Damaged(String),
}

impl Change {
    /// Which row changes.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Put(row) => row.key(),
            Self::Remove(key) => key.clone(),
        }
    }

    /// Whether a commit goes into the journal because of it. How far attempts are is of use only while they run, and the time
    /// goes along with what happens.
    pub fn is_journalled(&self) -> bool {
        match self.key() {
            RowKey::Record(_) | RowKey::Backbone(_) => true,
            RowKey::Progress(_) | RowKey::Clock | RowKey::Journalled => false,
        }
    }
}

// First bytes of keys: one for each kind of row.
const JOB: u8 = b'j';
const STATUS: u8 = b's';
const STAGE: u8 = b'g';
const MODEL: u8 = b'm';
const BACKBONE: u8 = b'b';
const PROGRESS: u8 = b'p';
const CLOCK: u8 = b'c';
const USER: u8 = b'u';
const WORKER: u8 = b'w';
const EVENT: u8 = b'e';
const JOURNALLED: u8 = b'n';

impl RowKey {
    /// The key as bytes. Numbers are big-endian, so that keys sort as numbers do.
    pub fn encode(&self) -> Vec<u8> {
        let key = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
        match self {
            Self::Record(RecordKey::Job(sequence)) => key(JOB, &sequence.to_be_bytes()),
            Self::Record(RecordKey::Status(sequence)) => key(STATUS, &sequence.to_be_bytes()),
            Self::Record(RecordKey::Stage(stage)) => key(STAGE, stage.0.as_bytes()),
            Self::Record(RecordKey::Model(task, version)) => {
                let name = task.as_str().as_bytes();
                key(MODEL, &[name, &[0], &version.to_be_bytes()].concat())
            }
            Self::Record(RecordKey::User(name)) => key(USER, name.as_str().as_bytes()),
            Self::Record(RecordKey::Worker(name)) => key(WORKER, name.as_str().as_bytes()),
            Self::Record(RecordKey::Event(subject, at, index)) => {
                let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
                let last = [&at.to_be_bytes()[..], &index.to_be_bytes()].concat();
                [event_prefix(subject), last].concat()
            }
            Self::Backbone(arch) => key(BACKBONE, arch.as_str().as_bytes()),
            Self::Progress(stage) => key(PROGRESS, stage.0.as_bytes()),
            Self::Clock => key(CLOCK, &[]),
            Self::Journalled => key(JOURNALLED, &[]),
        }
    }
}

/// What the keys of everything begin with that happened to a subject: sorted, they are in order of time.
pub fn event_prefix(subject: &Subject) -> Vec<u8> {
    let (kind, name): (u8, &[u8]) = match subject {
        Subject::Job(sequence) => (JOB, &sequence.to_be_bytes()),
        Subject::Stage(key) => (STAGE, key.0.as_bytes()),
        Subject::Worker(name) => (WORKER, &[name.as_str().as_bytes(), &[0]].concat()),
    };
    [&[EVENT, kind], name].concat()
}

/// Whether a key is one of something that happened. Those rows are read when somebody asks for them.
pub fn is_event(key: &[u8]) -> bool {
    key.first() == Some(&EVENT)
}

impl Row {
    /// The row's name.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Record(record) => RowKey::Record(record.key()),
            Self::Backbone(backbone) => RowKey::Backbone(backbone.arch),
            Self::Progress(attempt, _) => RowKey::Progress(attempt.stage),
            Self::Clock(_) => RowKey::Clock,
            Self::Journalled(_) => RowKey::Journalled,
        }
    }

    /// The row's value as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(256);
        value.push(VALUE_VERSION);
        match self {
            Self::Record(Record::Job(job)) => serde_json::to_writer(&mut value, &**job),
            Self::Record(Record::Status(status)) => serde_json::to_writer(&mut value, status),
            Self::Record(Record::Stage(stage)) => serde_json::to_writer(&mut value, stage),
            Self::Record(Record::Model(model)) => serde_json::to_writer(&mut value, model),
            Self::Record(Record::User(user)) => serde_json::to_writer(&mut value, user),
            Self::Record(Record::Worker(worker)) => serde_json::to_writer(&mut value, worker),
            Self::Record(Record::Event(event)) => serde_json::to_writer(&mut value, event),
            Self::Backbone(backbone) => serde_json::to_writer(&mut value, backbone),
            Self::Progress(attempt, progress) => serde_json::to_writer(&mut value, &(attempt, progress)),
            Self::Clock(elapsed) => serde_json::to_writer(&mut value, elapsed),
            Self::Journalled(number) => serde_json::to_writer(&mut value, number),
        }
        .expect("records have text keys and no failing serialisers, and memory takes every write");
        value
    }

    /// The row that was kept under a key.
    ///
    /// # Errors
    /// Key and value are not those of a row.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, Unreadable> {
        let json = match value {
            [VALUE_VERSION, json @ ..] => json,
            [version, ..] if *version > VALUE_VERSION => return Err(Unreadable::Newer(*version)),
            [version, ..] if *version > 0 => return Err(Unreadable::Older(*version)),
            _ => return Err(Unreadable::Damaged("no version".into())),
        };
        let row = match key.first() {
            Some(&JOB) => Self::Record(Record::Job(Arc::new(read(json)?))),
            Some(&STATUS) => Self::Record(Record::Status(read(json)?)),
            Some(&STAGE) => Self::Record(Record::Stage(read(json)?)),
            Some(&MODEL) => Self::Record(Record::Model(read(json)?)),
            Some(&USER) => Self::Record(Record::User(read(json)?)),
            Some(&WORKER) => Self::Record(Record::Worker(read(json)?)),
            Some(&EVENT) => Self::Record(Record::Event(read(json)?)),
            Some(&BACKBONE) => Self::Backbone(read(json)?),
            Some(&PROGRESS) => {
                let (attempt, progress) = read(json)?;
                Self::Progress(attempt, progress)
            }
            Some(&CLOCK) => Self::Clock(read(json)?),
            Some(&JOURNALLED) => Self::Journalled(read(json)?),
            _ => return Err(Unreadable::Damaged("no kind of row".into())),
        };
        if row.key().encode() != key {
            return Err(Unreadable::Damaged("its content belongs to another key".into()));
        }
        Ok(row)
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(json).map_err(|error| Unreadable::Damaged(error.to_string()))
}
