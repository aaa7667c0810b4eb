//! What the scripted trainer is told and what it notes, in a control folder that both sides know.
//!
//! The trainer finds the folder by the variable [`CONTROL`], which agents pass on with the rest of their environment. It
//! reads the [`Script`] there when it starts, and appends a [`Note`] to the ledger whenever something happened.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nettailor_domain::trainer::FailureClass;
use serde::{Deserialize, Serialize};

/// Names the control folder.
pub const CONTROL: &str = "NETTAILOR_SCRIPT";
/// Steps that a scripted stage takes in an epoch.
pub const STEPS_PER_EPOCH: u64 = 4;

/// How scripted stages go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Script {
    /// What a step takes, milliseconds.
    pub step_ms: u64,
    /// What goes wrong.
    pub cues: Vec<Cue>,
}

/// Something that happens to one rank 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cue {
    /// Of the tasks with this seed.
    pub seed: u64,
    /// Kind of the stage: `teacher`, `candidate(2)`.
    pub stage: String,
    /// In all attempts up to this one.
    pub until_attempt: u32,
    /// Before this step, from 0.
    pub step: u64,
    /// What.
    pub act: Act,
}

/// What a rank can be told to do out of turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Say that it failed.
    Fail(FailureClass),
    /// End without a word.
    Exit,
    /// Do nothing any more.
    Hang,
    /// The same, and not listen to SIGTERM.
    HangDeafly,
    /// Leave a checkpoint that is cut short, and end.
    TruncateCheckpoint,
}

/// A line of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// What happened.
    pub what: What,
    /// `<first digits of the stage's key>#<number>`.
    pub attempt: String,
    /// Which rank.
    pub rank: u32,
    /// Ranks of the attempt.
    pub world_size: u32,
    /// Kind of the stage.
    pub stage: String,
    /// Seed of the task.
    pub seed: u64,
    /// Steps that are behind it.
    pub step: u64,
    /// The trainer's process id.
    pub pid: u32,
    /// Its agent's.
    pub agent: u32,
}

/// What happened to a rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was started; it goes on from a checkpoint where steps are behind it.
    Begun,
    /// It did as a cue said.
    Acted(Act),
    /// It took every step and says so.
    Ended,
}

impl Note {
    /// The first digits of the stage's key, and the attempt's number.
    pub fn attempt(&self) -> (&str, u32) {
        let parts = self.attempt.split_once('#');
        let parts = parts.and_then(|(key, number)| Some((key, number.parse().ok()?)));
        parts.unwrap_or_else(|| panic!("{} is no attempt", self.attempt))
    }

    /// Whether it is about this stage, named by its whole key.
    pub fn is_of(&self, key: &str) -> bool {
        key.starts_with(self.attempt().0)
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            step_ms: 10,
            cues: Vec::new(),
        }
    }
}

/// A control folder.
#[derive(Debug, Clone)]
pub struct Control(PathBuf);

impl Control {
    /// The folder at `path`, which is there.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Has trainers that start from now on follow this script.
    pub fn direct(&self, script: &Script) -> anyhow::Result<()> {
        let partial = self.0.join("script.partial");
        fs::write(&partial, serde_json::to_vec(script)?)?;
        Ok(fs::rename(partial, self.0.join("script.json"))?)
    }

    /// The script; one in which nothing goes wrong where there is none.
    pub fn script(&self) -> anyhow::Result<Script> {
        let path = self.0.join("script.json");
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Script::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Appends to the ledger. A line is one write to a file that is open for appending, so that lines of different
    /// processes never mix.
    pub fn note(&self, note: &Note) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(note)?;
        line.push(b'\n');
        let mut ledger = File::options().create(true).append(true).open(self.ledger())?;
        Ok(ledger.write_all(&line)?)
    }

    /// Everything noted so far, in order.
    pub fn notes(&self) -> anyhow::Result<Vec<Note>> {
        let text = match fs::read_to_string(self.ledger()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let notes = text
            .lines()
            .map(|line| serde_json::from_str(line).context(line.to_owned()));
        notes.collect()
    }

    fn ledger(&self) -> PathBuf {
        self.0.join("ledger.jsonl")
    }
}
