//! `nettailor-scripted-trainer run <assignment.json>`: a trainer that takes its steps by the clock and computes nothing.
//!
//! It speaks to its agent as the real one does (see `nettailor_domain::trainer`), so that agents, coordinator and CLI
//! cannot tell. Each step hashes the state with the stage's identity and its own number: the weights it leaves are right
//! only if every step was taken once and in order, whatever happened on the way. What goes wrong is in a
//! [`Script`](nettailor_tests::script::Script).

#![allow(
    clippy::disallowed_methods,
    reason = "a program of the tests: its steps are waits, and its control folder is named by its environment"
)]

mod gang;
mod outcome;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::StageWork;
use nettailor_domain::trainer::{
    Assignment, Checkpoint, Failure, FailureClass, Finished, Progress, TrainerEvent, WEIGHTS_FILE,
};
use nettailor_tests::script::{Act, CONTROL, Control, Note, STEPS_PER_EPOCH, Script, What};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde::{Deserialize, Serialize};

use crate::gang::Gang;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, file] = arguments.as_slice() else {
        return usage();
    };
    if verb != "run" {
        return usage();
    }
    let ended = read(Path::new(file)).map_err(|error| internal(format!("{error:#}")));
    match ended.and_then(Stage::run) {
        Ok(finished) => {
            emit(&TrainerEvent::Finished(finished));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            emit(&TrainerEvent::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: {CONTROL}=<folder> nettailor-scripted-trainer run <assignment.json>");
    ExitCode::from(2)
}

fn read(file: &Path) -> anyhow::Result<Stage> {
    let folder = std::env::var_os(CONTROL).with_context(|| format!("{CONTROL} is not set"))?;
    let control = Control::at(&PathBuf::from(folder));
    let assignment: Assignment = serde_json::from_slice(&fs::read(file)?)?;
    let script = control.script()?;
    Ok(Stage {
        identity: identity(&assignment)?,
        assignment,
        control,
        script,
    })
}

/// Names everything that the stage's result depends on. Every file that it is given is read for it.
fn identity(assignment: &Assignment) -> anyhow::Result<Digest> {
    let digest = |path: &Path| fs::read(path).map(|bytes| Digest::of(&bytes));
    let backbone = assignment.backbone.as_ref().map(|file| {
        let found = digest(&file.path)?;
        anyhow::ensure!(
            found == file.digest,
            "{} is another backbone",
            file.path.display()
        );
        Ok(found)
    });
    let parents = assignment.parents.iter().map(|parent| {
        let weights = digest(&parent.weights)?;
        let named = parent.result.weights.map(|artifact| artifact.digest);
        anyhow::ensure!(
            named == Some(weights),
            "{} is another parent",
            parent.weights.display()
        );
        Ok(serde_json::json!([parent.result.outcome, weights]))
    });
    let identity = serde_json::json!({
        "spec": assignment.spec,
        "backbone": backbone.transpose()?,
        "data": digest(&assignment.data)?,
        "parents": parents.collect::<anyhow::Result<Vec<_>>>()?,
    });
    Ok(Digest::of(identity.to_string().as_bytes()))
}

/// What is left for a later attempt.
#[derive(Serialize, Deserialize)]
struct Left {
    stage: Digest,
    step: u64,
    state: Digest,
}

struct Stage {
    assignment: Assignment,
    control: Control,
    script: Script,
    identity: Digest,
}

impl Stage {
    fn run(self) -> Result<Finished, Failure> {
        let Left {
            mut step, mut state, ..
        } = self.beginning()?;
        self.note(What::Begun, step)?;
        let mut gang = Gang::join(&self.assignment, |port| emit(&TrainerEvent::Meeting { port }))?;
        let every = Duration::from_secs(self.assignment.checkpoint_seconds.into());
        let mut last = Instant::now();
        let mut newest = None;
        while step < self.steps() {
            self.act_at(step, state)?;
            std::thread::sleep(Duration::from_millis(self.script.step_ms));
            state = Digest::of(format!("{state} {} {step}", self.identity).as_bytes());
            step += 1;
            gang.agree(step, state)?;
            emit(&TrainerEvent::Progress(self.progress(step)));
            let due = step.is_multiple_of(STEPS_PER_EPOCH) && last.elapsed() >= every;
            if due && step < self.steps() && self.assignment.rank == 0 {
                let left = self.leave(step, state, false)?;
                // One that cannot be removed takes up room, no more.
                newest.replace(left).map(fs::remove_file);
                last = Instant::now();
            }
        }
        let finished = outcome::finished(&self.assignment, state)?;
        if finished.outcome.leaves_weights() {
            let text = format!("{} {state}\n", self.assignment.spec.kind());
            self.write(WEIGHTS_FILE, text.as_bytes())?;
        }
        self.note(What::Ended, step)?;
        Ok(finished)
    }

    /// Steps in all.
    fn steps(&self) -> u64 {
        STEPS_PER_EPOCH * u64::from(self.epochs())
    }

    fn epochs(&self) -> u32 {
        let epochs = match &self.assignment.spec.work {
            StageWork::Source { training } | StageWork::Teacher { training } => training.epochs,
            StageWork::Student { student, .. } => student.training.epochs,
            StageWork::Candidate { settings, .. } | StageWork::Search { settings, .. } => {
                settings.training.epochs
            }
            StageWork::Select { .. } => 1,
        };
        epochs.max(1)
    }

    fn beginning(&self) -> Result<Left, Failure> {
        let Some(path) = &self.assignment.checkpoint else {
            return Ok(Left {
                stage: self.identity,
                step: 0,
                state: self.identity,
            });
        };
        let bytes = fs::read(path).map_err(broken)?;
        let left: Option<Left> = serde_json::from_slice(&bytes).ok();
        left.filter(|left| left.stage == self.identity)
            .ok_or_else(|| internal(format!("{} is no checkpoint of this stage", path.display())))
    }

    /// Leaves a checkpoint, or half of one, and says so.
    fn leave(&self, step: u64, state: Digest, truncated: bool) -> Result<PathBuf, Failure> {
        let left = Left {
            stage: self.identity,
            step,
            state,
        };
        let mut bytes = serde_json::to_vec(&left).map_err(broken)?;
        if truncated {
            bytes.truncate(bytes.len() / 2);
        }
        let file = self.write(&format!("checkpoint-{step}.json"), &bytes)?;
        emit(&TrainerEvent::Checkpoint(Checkpoint {
            file: file.clone(),
            epoch: u32::try_from(step / STEPS_PER_EPOCH).unwrap_or(u32::MAX),
            step,
        }));
        Ok(file)
    }

    /// Writes a file that appears whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let (partial, file) = (format!("{name}.partial"), self.assignment.output_dir.join(name));
        let partial = self.assignment.output_dir.join(partial);
        fs::write(&partial, bytes).map_err(broken)?;
        fs::rename(partial, &file).map_err(broken)?;
        Ok(file)
    }

    fn progress(&self, step: u64) -> Progress {
        Progress {
            phase: "training".to_owned(),
            epoch: u32::try_from((step - 1) / STEPS_PER_EPOCH + 1).unwrap_or(u32::MAX),
            epochs: self.epochs(),
            step,
            steps: self.steps(),
            ..Progress::default()
        }
    }

    /// Does what a cue says, if there is one for this moment.
    fn act_at(&self, step: u64, state: Digest) -> Result<(), Failure> {
        let number = self.assignment.gang.rsplit_once('#').map(|(_, number)| number);
        let number: u32 = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        let kind = self.assignment.spec.kind().to_string();
        let is_now = |cue: &&nettailor_tests::script::Cue| {
            cue.seed == self.assignment.spec.seed
                && cue.stage == kind
                && number <= cue.until_attempt
                && cue.step == step
        };
        let Some(cue) = self.script.cues.iter().find(is_now) else {
            return Ok(());
        };
        if self.assignment.rank != 0 {
            return Ok(());
        }
        self.note(What::Acted(cue.act.clone()), step)?;
        match cue.act {
            Act::Fail(class) => Err(Failure {
                class,
                message: "the script says so".to_owned(),
            }),
            Act::Exit => std::process::exit(1),
            Act::Hang => hang(),
            Act::HangDeafly => {
                // SAFETY: no handler runs; the signal is ignored.
                unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }.map_err(broken)?;
                hang()
            }
            Act::TruncateCheckpoint => {
                self.leave(step, state, true)?;
                std::process::exit(1)
            }
        }
    }

    fn note(&self, what: What, step: u64) -> Result<(), Failure> {
        let note = Note {
            what,
            attempt: self.assignment.gang.clone(),
            rank: self.assignment.rank,
            world_size: self.assignment.world_size,
            stage: self.assignment.spec.kind().to_string(),
            seed: self.assignment.spec.seed,
            step,
            pid: std::process::id(),
            agent: std::os::unix::process::parent_id(),
        };
        self.control
            .note(&note)
            .map_err(|error| internal(format!("{error:#}")))
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn internal(message: String) -> Failure {
    Failure {
        class: FailureClass::Internal,
        message,
    }
}

fn broken(error: impl std::error::Error) -> Failure {
    internal(error.to_string())
}

/// Writes one line. Without a reader there is nobody to work for: the process ends.
fn emit(event: &TrainerEvent) {
    let written = serde_json::to_string(event).map(|line| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush())
    });
    if !matches!(written, Ok(Ok(()))) {
        std::process::exit(1);
    }
}
