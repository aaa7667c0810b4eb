//! The ledger of samples: which images a rank trained on, step by step, for whoever wants to check that every epoch used
//! each of them once. One file per attempt and rank, one line of JSON per step; see docs/gangs.md.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use nettailor_domain::trainer::Assignment;
use serde::Serialize;

use super::Error;
use crate::data::{Batch, Dataset};

/// One step of one rank.
#[derive(Serialize)]
struct Entry<'a> {
    stage: String,
    attempt: &'a str,
    rank: u32,
    /// From 0.
    epoch: u32,
    /// Of the whole stage, from 0.
    step: u64,
    /// Names in the archive.
    images: Vec<&'a str>,
}

/// What is noted of one attempt.
pub(super) struct Ledger<'a> {
    assignment: &'a Assignment,
    path: PathBuf,
    file: BufWriter<File>,
}

impl<'a> Ledger<'a> {
    /// An empty one, if the assignment asks for it.
    pub(super) fn open(assignment: &'a Assignment) -> Result<Option<Self>, Error> {
        let Some(folder) = &assignment.sample_ledger else {
            return Ok(None);
        };
        let name = format!("{}-{}.jsonl", assignment.gang, assignment.rank).replace(['#', '/'], "-");
        let path = folder.join(name);
        let created = std::fs::create_dir_all(folder).and_then(|()| File::create(&path));
        let file = created.map_err(|source| Error::Ledger {
            path: path.clone(),
            source,
        })?;
        Ok(Some(Self {
            assignment,
            path,
            file: BufWriter::new(file),
        }))
    }

    /// Notes a step that was taken. It is in the file when this returns: whatever happens next, the line is there.
    pub(super) fn note(&mut self, data: &Dataset, epoch: u32, step: u64, batch: &Batch) -> Result<(), Error> {
        let entry = Entry {
            stage: self.assignment.spec.kind().to_string(),
            attempt: &self.assignment.gang,
            rank: self.assignment.rank,
            epoch,
            step,
            images: batch.images.iter().map(|&index| data.name(index)).collect(),
        };
        let written = serde_json::to_writer(&mut self.file, &entry)
            .map_err(std::io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.flush());
        written.map_err(|source| Error::Ledger {
            path: self.path.clone(),
            source,
        })
    }
}
