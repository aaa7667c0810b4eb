//! `nettailor-trainer run <assignment.json>`: one stage, then the end.
//!
//! Events go to stdout as JSON lines, everything meant for people to stderr. SIGTERM keeps its default action and ends
//! the process at once (status 143 in a shell): weights are written beside their place and renamed, so there is nothing
//! to tidy up.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nettailor_domain::trainer::{Assignment, Failure, FailureClass, TrainerEvent};
use nettailor_trainer::runtime::{self, Clock};
use nettailor_trainer::{gang, stages};

/// How long a rank may go on computing once its gang is aborted.
const LAST_STEP: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, file] = arguments.as_slice() else {
        return usage();
    };
    if verb != "run" {
        return usage();
    }
    let event = match read(Path::new(file)) {
        Ok(assignment) => run(&assignment),
        Err(error) => said(TrainerEvent::Failed(Failure {
            class: FailureClass::Internal,
            message: format!("{error:#}"),
        })),
    };
    match event {
        TrainerEvent::Failed(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: nettailor-trainer run <assignment.json>\n\nThe worker agent starts it; see nettailor_domain::trainer."
    );
    ExitCode::from(2)
}

fn read(file: &Path) -> anyhow::Result<Assignment> {
    let bytes =
        std::fs::read(file).with_context(|| format!("assignment {} cannot be read", file.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("assignment {} is not one", file.display()))
}

/// Runs the stage and says how it ended.
fn run(assignment: &Assignment) -> TrainerEvent {
    let clock = Clock::start();
    let device = runtime::prepare(assignment.threads);
    eprintln!(
        "{} on {device:?}, {} threads",
        assignment.spec.kind(),
        assignment.threads
    );
    let mut meeting = |port| emit(&TrainerEvent::Meeting { port });
    let gang = match gang::join(assignment, device, &mut meeting, end_soon) {
        Ok(gang) => gang,
        Err(error) => return said(TrainerEvent::Failed(error.failure())),
    };
    let ended = stages::run(assignment, device, gang.as_ref(), clock, &mut emit);
    eprintln!("{}", runtime::memory(device));
    match ended {
        // The work is done whoever is lost now.
        Ok(finished) => {
            if let Err(error) = gang.leave() {
                eprintln!("left the gang without a word: {error}");
            }
            said(TrainerEvent::Finished(finished))
        }
        Err(error) => {
            // Before the others hear of it and say that they lost this rank.
            let failed = said(TrainerEvent::Failed(error.failure()));
            gang.abort(&error.to_string());
            failed
        }
    }
}

/// After the loss of another rank there is no more to do here. The next exchange says so; a step that takes longer is not waited
/// for.
#[allow(
    clippy::disallowed_methods,
    reason = "a thread of its own, which has nothing to do but to wait for the end"
)]
fn end_soon(reason: &str) {
    std::thread::sleep(LAST_STEP);
    let message = format!("the gang was aborted: {reason}");
    eprintln!("error: {message}");
    said(TrainerEvent::Failed(Failure {
        class: FailureClass::Lost,
        message,
    }));
    std::process::exit(1);
}

/// The last event, which is written: the first one of these.
fn said(event: TrainerEvent) -> TrainerEvent {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        emit(&event);
    }
    event
}

/// Writes one line. Without a reader there is nobody to work for: the process ends.
fn emit(event: &TrainerEvent) {
    let written = serde_json::to_string(event).map(|line| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush())
    });
    if !matches!(written, Ok(Ok(()))) {
        eprintln!("error: the events' reader is gone");
        std::process::exit(1);
    }
}
