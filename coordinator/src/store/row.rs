//! Rows: what they are called and how they are written.

use nettailor_domain::model::BackboneRecord;
use nettailor_scheduler::record::Record;
use serde::de::DeserializeOwned;

/// Version of the values; their first byte. 2: backbones may come from a source stage, outcomes of searches. 3: attempts have
/// ranks, stages checkpoints.
const VALUE_VERSION: u8 = 3;

/// One thing to keep.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Of the scheduler.
    Record(Record),
    /// An imported backbone.
    Backbone(BackboneRecord),
}

/// One tree per kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tree {
    Jobs,
    Stages,
    Models,
    Backbones,
}

impl Tree {
    pub(super) const ALL: [Tree; 4] = [Self::Jobs, Self::Stages, Self::Models, Self::Backbones];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Stages => "stages",
            Self::Models => "models",
            Self::Backbones => "backbones",
        }
    }
}

/// Why bytes are not a row.
#[derive(Debug)]
pub(super) enum Unreadable {
    Older(u8),
    Newer(u8),
    Damaged(String),
}

impl Row {
    /// Where the row is kept. Numbers in keys are big-endian, so that keys sort as numbers do.
    pub(super) fn place(&self) -> (Tree, Vec<u8>) {
        match self {
            Self::Record(Record::Job(job)) => (Tree::Jobs, job.sequence.to_be_bytes().to_vec()),
            Self::Record(Record::Stage(stage)) => (Tree::Stages, stage.planned.key.to_string().into_bytes()),
            Self::Record(Record::Model(model)) => {
                let mut key = model.task.as_str().as_bytes().to_vec();
                key.push(0);
                key.extend(model.version.to_be_bytes());
                (Tree::Models, key)
            }
            Self::Backbone(backbone) => (Tree::Backbones, backbone.arch.as_str().as_bytes().to_vec()),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = vec![VALUE_VERSION];
        match self {
            Self::Record(Record::Job(job)) => serde_json::to_writer(&mut value, job),
            Self::Record(Record::Stage(stage)) => serde_json::to_writer(&mut value, stage),
            Self::Record(Record::Model(model)) => serde_json::to_writer(&mut value, model),
            Self::Backbone(backbone) => serde_json::to_writer(&mut value, backbone),
        }
        .expect("records have text keys and no failing serialisers, and memory takes every write");
        value
    }

    pub(super) fn decode(tree: Tree, value: &[u8]) -> Result<Self, Unreadable> {
        let json = match value {
            [VALUE_VERSION, json @ ..] => json,
            [version, ..] if *version > VALUE_VERSION => return Err(Unreadable::Newer(*version)),
            [version, ..] if *version > 0 => return Err(Unreadable::Older(*version)),
            _ => return Err(Unreadable::Damaged("no version".into())),
        };
        Ok(match tree {
            Tree::Jobs => Self::Record(Record::Job(read(json)?)),
            Tree::Stages => Self::Record(Record::Stage(read(json)?)),
            Tree::Models => Self::Record(Record::Model(read(json)?)),
            Tree::Backbones => Self::Backbone(read(json)?),
        })
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(json).map_err(|error| Unreadable::Damaged(error.to_string()))
}
