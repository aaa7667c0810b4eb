//! Views of the scheduler as messages.

use nettailor_domain::architecture::Selection;
use nettailor_domain::stage::{Infeasible, StageOutcome, StageResult, Tailored};
use nettailor_domain::trainer::{FailureClass, Progress};
use nettailor_domain::units::human;
use nettailor_engine::Job;
use nettailor_proto::convert::common::pairs;
use nettailor_proto::v1;
use nettailor_scheduler::view::{JobPhase, JobView, StagePhase, StageView, WorkerPhase, WorkerView};

use crate::logs::Entry;
use crate::watch::JobEvent;

pub(super) fn job(job: &Job) -> v1::Job {
    let stages = job
        .view
        .stages
        .iter()
        .map(|view| stage(view, job.progress.get(&view.key)))
        .collect();
    v1::Job {
        stages,
        ..summary(&job.view)
    }
}

/// A job without its stages.
pub(super) fn summary(view: &JobView) -> v1::Job {
    v1::Job {
        id: view.id.to_string(),
        task: view.task.to_string(),
        state: phase(view.phase).into(),
        reason: view.reason.clone(),
        submitted_ms: view.submitted_ms,
        finished_ms: view.finished_ms.unwrap_or(0),
        model_version: view.model_version.unwrap_or(0),
        stages_run: view.stages_run,
        stages: Vec::new(),
        user: view.user.to_string(),
        priority: view.priority.into(),
        failure_class: view.failure_class.map(class).unwrap_or_default().to_owned(),
        retry_of: view
            .retry_of
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

pub(super) fn phase(phase: JobPhase) -> v1::JobState {
    match phase {
        JobPhase::Queued => v1::JobState::Queued,
        JobPhase::Running => v1::JobState::Running,
        JobPhase::Succeeded => v1::JobState::Succeeded,
        JobPhase::Failed => v1::JobState::Failed,
        JobPhase::Cancelled => v1::JobState::Cancelled,
        JobPhase::Paused => v1::JobState::Paused,
    }
}

/// A failure class as it crosses the wire in a job.
fn class(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Input => "input",
        FailureClass::Resources => "resources",
        FailureClass::Internal => "internal",
        FailureClass::Lost => "lost",
        FailureClass::Deadline => "deadline",
    }
}

fn stage(view: &StageView, progress: Option<&Progress>) -> v1::Stage {
    let state = match view.phase {
        StagePhase::Waiting => v1::StageState::Waiting,
        StagePhase::Queued => v1::StageState::Queued,
        StagePhase::Running => v1::StageState::Running,
        StagePhase::Done => v1::StageState::Done,
        StagePhase::Failed => v1::StageState::Failed,
        StagePhase::Idle => v1::StageState::Idle,
    };
    v1::Stage {
        key: view.key.to_string(),
        kind: view.kind.to_string(),
        state: state.into(),
        reason: view.reason.clone(),
        attempt: view.attempt,
        workers: view.workers.iter().map(ToString::to_string).collect(),
        progress: progress.cloned().map(Into::into),
        summary: view.result.as_deref().map(found).unwrap_or_default(),
        seconds: view.result.as_deref().map_or(0.0, |result| result.seconds),
        world_size: view.world_size,
        checkpoint_epoch: view.checkpoint_epoch,
        reused: view.reused,
    }
}

/// What a stage found, in one line.
fn found(result: &StageResult) -> String {
    let text = match &result.outcome {
        StageOutcome::Source { held_out } | StageOutcome::Teacher { held_out } => {
            format!("held-out {held_out}")
        }
        StageOutcome::Student {
            held_out,
            expected_complexity,
            ..
        } => {
            format!("held-out {held_out}, expected complexity {expected_complexity:.3}")
        }
        StageOutcome::Candidate(tailored) => candidate(tailored),
        StageOutcome::Infeasible(Infeasible { reason, .. }) => format!("infeasible: {reason}"),
        StageOutcome::Search {
            frontier,
            infeasible,
            selection,
            tailored,
        } => format!(
            "candidate({}) of {}{}: {}",
            selection.k,
            frontier.len() + infeasible.len(),
            flag(selection),
            candidate(tailored)
        ),
        StageOutcome::Select {
            selection,
            teacher_test,
            test,
            ..
        } => format!(
            "candidate({}){}: test {test}, teacher {teacher_test}",
            selection.k,
            flag(selection)
        ),
    };
    match result.unreadable {
        0 => text,
        1 => format!("{text}; 1 unreadable image left out"),
        count => format!("{text}; {count} unreadable images left out"),
    }
}

fn candidate(Tailored { point, architecture }: &Tailored) -> String {
    format!(
        "held-out {}, {} of {} blocks, {} parameters, {} FLOPs",
        point.held_out,
        architecture.kept_mains().len(),
        architecture.layers.len(),
        human(point.counts.active_params),
        human(point.counts.active_flops),
    )
}

fn flag(selection: &Selection) -> &'static str {
    if selection.qualified {
        ""
    } else {
        ", below the threshold"
    }
}

pub(super) fn event(event: &JobEvent) -> v1::JobEvent {
    use v1::job_event::Event;
    let event = match event {
        JobEvent::Job(changed) => Event::Job(job(changed)),
        JobEvent::Progress {
            attempt,
            kind,
            progress,
        } => Event::Progress(v1::StageProgress {
            key: attempt.stage.to_string(),
            kind: kind.to_string(),
            attempt: attempt.number,
            progress: Some(progress.clone().into()),
        }),
    };
    v1::JobEvent { event: Some(event) }
}

pub(super) fn log_line(entry: Entry) -> v1::LogLine {
    v1::LogLine {
        stage: entry.stage.to_string(),
        attempt: entry.attempt,
        worker: entry.worker,
        time_ms: entry.time_ms,
        line: entry.line,
        rank: entry.rank,
    }
}

pub(super) fn worker(view: WorkerView) -> v1::Worker {
    let state = match view.phase {
        WorkerPhase::Ready => v1::WorkerState::Ready,
        WorkerPhase::Draining => v1::WorkerState::Draining,
        WorkerPhase::Disconnected => v1::WorkerState::Disconnected,
        WorkerPhase::Cordoned => v1::WorkerState::Cordoned,
        WorkerPhase::SetAside => v1::WorkerState::SetAside,
    };
    v1::Worker {
        name: view.id.into(),
        state: state.into(),
        slots: view.slots,
        slots_used: view.slots_used,
        threads_per_slot: view.threads_per_slot,
        device: view.device,
        running: view
            .running
            .into_iter()
            .map(|running| running.description)
            .collect(),
        cached_blobs: view.cached_blobs as u64,
        last_seen_ms: view.last_seen_ms,
        version: view.version,
        labels: pairs(&view.labels),
        reason: view.reason,
        placed_bytes: view.placed_bytes[0],
        reused_bytes: view.placed_bytes[1],
    }
}
