//! What a stage leaves on its way, so that a later attempt goes on from there: one file with the learners' state and its
//! position in the run. Every rank holds the same state, so rank 0's file is everybody's, whatever the next gang's width.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nettailor_domain::METHOD_VERSION;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::FrontierPoint;
use nettailor_domain::trainer::{Assignment, Checkpoint};
use serde::{Deserialize, Serialize};

use super::costs::Measured;
use super::{Error, Stage};
use crate::step::{self, State};
use crate::weights::{self, Weights};

/// The name under which a file notes its [`Note`].
const NOTE: &str = "checkpoint";

/// Where in its run a state belongs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epochs that are behind it.
    pub(super) epoch: u32,
    /// Steps that are behind it.
    pub(super) step: u64,
    /// Rounds of a search that are behind it.
    pub(super) rounds: usize,
    /// A search's candidates as far as they are.
    pub(super) points: Vec<FrontierPoint>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    /// Of everything that the stage's result depends on.
    stage: Digest,
    position: Position,
    /// What the stage's costs are counted in, where they were measured.
    latencies: Option<Measured>,
}

/// The checkpoints of one attempt.
pub(super) struct Checkpoints {
    stage: Digest,
    every: Duration,
    /// When the last was made, or the attempt began.
    last: Duration,
    /// The newest one that this attempt left.
    newest: Option<PathBuf>,
    /// What an earlier attempt left, until it is taken.
    earlier: Option<(Position, State)>,
    /// The stage's measured costs, if it goes by such: every attempt by the same.
    pub(super) latencies: Option<Measured>,
}

impl Checkpoints {
    /// Reads what an earlier attempt left, if the assignment names it.
    pub(super) fn open(assignment: &Assignment, now: Duration) -> Result<Self, Error> {
        let stage = identity(assignment);
        let read = |path: &PathBuf| read(path, stage);
        let (earlier, latencies) = match assignment.checkpoint.as_ref().map(read).transpose()? {
            Some((note, state)) => (Some((note.position, state)), note.latencies),
            None => (None, None),
        };
        Ok(Self {
            stage,
            every: Duration::from_secs(assignment.checkpoint_seconds.into()),
            last: now,
            newest: None,
            earlier,
            latencies,
        })
    }

    /// Where to go on from; once.
    pub(super) fn take(&mut self) -> Option<(Position, State)> {
        self.earlier.take()
    }
}

/// Names the stage by what the trainer is told of it.
fn identity(assignment: &Assignment) -> Digest {
    let parents = assignment.parents.iter().map(|parent| {
        let weights = parent.result.weights.map(|artifact| artifact.digest);
        serde_json::json!([parent.result.outcome, weights])
    });
    let identity = serde_json::json!({
        "method": METHOD_VERSION,
        "spec": assignment.spec,
        "backbone": assignment.backbone.as_ref().map(|file| file.digest),
        "parents": parents.collect::<Vec<_>>(),
    });
    Digest::of(identity.to_string().as_bytes())
}

fn read(path: &Path, stage: Digest) -> Result<(Note, State), Error> {
    let unreadable = |error| match error {
        weights::Error::Format { .. } | weights::Error::Type { .. } => {
            Error::NoCheckpoint { path: path.into() }
        }
        error => error.into(),
    };
    let (weights, notes) = Weights::read_with_notes(path).map_err(unreadable)?;
    let note: Option<Note> = notes.get(NOTE).and_then(|note| serde_json::from_str(note).ok());
    let Some(note) = note else {
        return Err(Error::NoCheckpoint { path: path.into() });
    };
    if note.stage != stage {
        return Err(Error::ForeignCheckpoint {
            path: path.into(),
            found: note.stage,
            expected: stage,
        });
    }
    Ok((note, weights.into()))
}

impl Stage<'_> {
    /// Leaves a checkpoint if it is time for one. All ranks call it at the same point of the run; the first one's clock
    /// decides.
    pub(super) fn checkpoint(
        &mut self,
        state: impl FnOnce() -> Result<State, step::Error>,
        position: impl FnOnce() -> Position,
    ) -> Result<(), Error> {
        let (gang, device) = (self.gang, self.layout.device);
        let now = self.clock.elapsed();
        let late = now - self.checkpoints.last >= self.checkpoints.every;
        let mut due = [i64::from(gang.rank() == 0 && late)];
        step::sum(gang, device, &mut due)?;
        if due == [0] {
            return Ok(());
        }
        let state = state()?;
        self.agree(&state)?;
        self.checkpoints.last = now;
        if gang.rank() != 0 {
            return Ok(());
        }
        let position = position();
        let (epoch, step) = (position.epoch, position.step);
        let stage = self.checkpoints.stage;
        let latencies = self.checkpoints.latencies.clone();
        let note = serde_json::json!(Note {
            stage,
            position,
            latencies
        })
        .to_string();
        let notes = HashMap::from([(NOTE.to_owned(), note)]);
        let folder = &self.assignment.output_dir;
        let file = folder.join(format!("checkpoint-{step}.safetensors"));
        weights::write_with_notes(&file, state.iter(), Some(notes))?;
        self.report.checkpoint(Checkpoint {
            file: file.clone(),
            epoch,
            step,
        });
        if let Some(before) = self.checkpoints.newest.replace(file) {
            // If it cannot be removed it takes up room, no more.
            std::fs::remove_file(before).ok();
        }
        Ok(())
    }

    /// Fails unless all ranks hold this state.
    pub(super) fn agree(&self, state: &State) -> Result<(), Error> {
        if self.gang.world_size() > 1 {
            step::agree(self.gang, self.layout.device, state.digest()?)?;
        }
        Ok(())
    }
}
