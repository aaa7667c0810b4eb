//! What changed, one line each: the whole display where there is no terminal, the part above the bars where there is.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use nettailor_domain::trainer::Progress;
use tokio::time::Instant;

use super::text;
use crate::output::first_line;
use crate::quantity::seconds;
use crate::views::{JobView, StageState, StageView};

/// A stage's progress is told this often at most...
const QUIET: Duration = Duration::from_secs(10);
/// ...or at a new epoch, if this much time has passed. A phase is told when it is first entered.
const QUIET_IN_EPOCH: Duration = Duration::from_secs(3);

/// Remembers what was said, to say only what is new.
#[derive(Debug, Default)]
pub(super) struct Lines {
    jobs: HashMap<usize, JobView>,
    /// Why a job waits, as it was told last.
    waits: HashMap<usize, String>,
    /// What was told about a stage's progress.
    told: HashMap<(usize, String), Told>,
}

#[derive(Debug)]
struct Told {
    last: Instant,
    epoch: u32,
    /// Phases that were told. Training and evaluating alternate; only their first time is news.
    phases: BTreeSet<String>,
}

impl Told {
    fn due(&self, progress: &Progress, now: Instant) -> bool {
        let quiet = if self.epoch == progress.epoch {
            QUIET
        } else {
            QUIET_IN_EPOCH
        };
        !self.phases.contains(&progress.phase) || now.duration_since(self.last) >= quiet
    }
}

impl Lines {
    /// What is new about job `index`.
    pub(super) fn job(&mut self, index: usize, job: &JobView) -> Vec<String> {
        let before = self.jobs.insert(index, job.clone());
        let stage_before = |stage: &StageView| {
            before
                .as_ref()
                .and_then(|job| job.stages.iter().find(|known| known.key == stage.key))
        };
        let mut lines: Vec<String> = job
            .stages
            .iter()
            .filter_map(|stage| stage_line(stage, stage_before(stage)))
            .map(|line| format!("{}: {}", job.task, first_line(&line)))
            .collect();
        let waits_again = |stage: &StageView| {
            stage.state == StageState::Queued
                && stage_before(stage).is_some_and(|before| before.state == StageState::Running)
        };
        if job.stages.iter().any(waits_again) {
            // That has just been told of the stage.
            self.waits.insert(index, job.reason.clone());
        }
        let changed = before.as_ref().is_none_or(|before| before.state != job.state);
        if changed && job.state.is_final() {
            lines.push(format!("{}: {}", job.task, first_line(&job.ending())));
        }
        lines
    }

    /// Why job `index` waits, where none of its stages runs and that was not just said.
    pub(super) fn waiting(&mut self, index: usize, job: &JobView) -> Option<String> {
        let runs = job.stages.iter().any(|stage| stage.state == StageState::Running);
        if runs || job.state.is_final() || job.reason.is_empty() {
            // It may have to wait for the same once more, which is news then.
            self.waits.remove(&index);
            return None;
        }
        let before = self.waits.insert(index, job.reason.clone());
        let news = before.is_none_or(|before| before != job.reason);
        news.then(|| format!("{}: {}", job.task, first_line(&job.ending())))
    }

    /// Whether, and how, this report is told.
    pub(super) fn progress(
        &mut self,
        index: usize,
        stage: &str,
        progress: &Progress,
        now: Instant,
    ) -> Option<String> {
        let key = (index, stage.to_owned());
        if self.told.get(&key).is_some_and(|told| !told.due(progress, now)) {
            return None;
        }
        let mut phases = self.told.remove(&key).map(|told| told.phases).unwrap_or_default();
        phases.insert(progress.phase.clone());
        self.told.insert(
            key,
            Told {
                last: now,
                epoch: progress.epoch,
                phases,
            },
        );
        let task = self.jobs.get(&index).map_or("", |job| job.task.as_str());
        Some(format!("{task}: {stage}: {}", text::progress(progress)))
    }
}

/// What to say about a stage that was `before` and is `stage` now.
fn stage_line(stage: &StageView, before: Option<&StageView>) -> Option<String> {
    let kind = &stage.kind;
    let same = before.is_some_and(|before| (before.state, before.attempt) == (stage.state, stage.attempt));
    let took = stage
        .seconds
        .map(|took| format!(" in {}", seconds(took)))
        .unwrap_or_default();
    match stage.state {
        _ if same => None,
        StageState::Running => Some(match stage.attempt {
            0 | 1 => format!("{kind} runs on {}", stage.hosts()),
            attempt => format!("{kind} runs on {} (attempt {attempt})", stage.hosts()),
        }),
        StageState::Done if stage.reused => Some(format!("{kind} was already done: {}", stage.summary)),
        StageState::Done => Some(format!("{kind} done{took}: {}", stage.summary)),
        StageState::Failed => Some(format!("{kind} failed: {}", stage.reason)),
        // It ran, and has to wait again: that has a reason worth telling.
        StageState::Queued if before.is_some_and(|before| before.state == StageState::Running) => {
            Some(format!("{kind} waits again: {}", stage.reason))
        }
        StageState::Queued | StageState::Waiting | StageState::Idle | StageState::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::JobState;
    use crate::views::fixtures::{job, stage};

    #[test]
    fn every_change_is_told_once() {
        let mut lines = Lines::default();
        let with = |state, stages: Vec<StageView>| JobView {
            state,
            stages,
            ..job()
        };
        let running = StageView {
            workers: vec!["one".into()],
            attempt: 1,
            ..stage("student", StageState::Running)
        };
        let teacher = StageView {
            summary: "held-out 97.80 %".into(),
            reused: true,
            ..stage("teacher", StageState::Done)
        };
        let first = with(JobState::Running, vec![teacher.clone(), running.clone()]);
        assert_eq!(
            lines.job(0, &first),
            [
                "digits: teacher was already done: held-out 97.80 %",
                "digits: student runs on one"
            ]
        );
        assert!(lines.job(0, &first).is_empty(), "nothing new");

        let lost = StageView {
            state: StageState::Queued,
            reason: "worker one was lost".into(),
            ..running.clone()
        };
        let waiting = JobView {
            reason: "student waits: worker one was lost".into(),
            ..with(JobState::Running, vec![teacher.clone(), lost])
        };
        assert_eq!(
            lines.job(0, &waiting),
            ["digits: student waits again: worker one was lost"]
        );
        assert_eq!(lines.waiting(0, &waiting), None, "once is enough");

        let again = StageView {
            workers: ["two", "three", "two"].map(str::to_owned).to_vec(),
            attempt: 2,
            ..running
        };
        let again = with(JobState::Running, vec![teacher, again]);
        assert_eq!(
            lines.job(0, &again),
            ["digits: student runs on two x2, three (attempt 2)"]
        );

        let failed = JobView {
            state: JobState::Failed,
            reason: "student: no space".into(),
            ..again
        };
        assert_eq!(lines.job(0, &failed), ["digits: failed: student: no space"]);
    }

    #[test]
    fn a_stage_that_was_done_before_the_first_look_is_told_from_one_that_was_found_done() {
        let done = |kind: &str, reused| StageView {
            summary: "held-out 97.80 %".into(),
            seconds: Some(2.0),
            reused,
            ..stage(kind, StageState::Done)
        };
        let first = JobView {
            state: JobState::Running,
            stages: vec![done("source", true), done("teacher", false)],
            ..job()
        };
        assert_eq!(
            Lines::default().job(0, &first),
            [
                "digits: source was already done: held-out 97.80 %",
                "digits: teacher done in 2.0s: held-out 97.80 %"
            ]
        );
    }

    #[test]
    fn a_job_that_waits_says_why_until_something_runs() {
        let mut lines = Lines::default();
        let with = |state, reason: &str, stages: &[StageState]| JobView {
            state,
            reason: reason.into(),
            stages: stages.iter().map(|&state| stage("teacher", state)).collect(),
            ..job()
        };
        let queued = with(
            JobState::Queued,
            "teacher waits for a slot: no worker",
            &[StageState::Queued],
        );
        assert_eq!(
            lines.waiting(0, &queued).as_deref(),
            Some("digits: queued: teacher waits for a slot: no worker")
        );
        assert_eq!(lines.waiting(0, &queued), None, "that was said");
        assert!(
            lines.waiting(1, &queued).is_some(),
            "another job has its own reason"
        );
        let paused = with(JobState::Paused, "paused: later", &[StageState::Idle]);
        assert_eq!(
            lines.waiting(0, &paused).as_deref(),
            Some("digits: paused: later")
        );

        let running = with(JobState::Running, "teacher runs", &[StageState::Running]);
        assert_eq!(lines.waiting(0, &running), None);
        assert!(
            lines.waiting(0, &paused).is_some(),
            "it waits for the same once more"
        );
        let failed = with(JobState::Failed, "teacher: no space", &[StageState::Failed]);
        assert_eq!(lines.waiting(0, &failed), None, "its end is told elsewhere");
    }

    #[test]
    fn progress_is_told_now_and_then() {
        let mut lines = Lines::default();
        lines.job(0, &job());
        let start = Instant::now();
        let mut told = |ms, stage: &str, epoch| {
            let progress = Progress {
                phase: if epoch == 0 { "fetching inputs" } else { "training" }.into(),
                epoch,
                epochs: 9,
                ..Progress::default()
            };
            lines.progress(0, stage, &progress, start + Duration::from_millis(ms))
        };
        assert!(told(0, "teacher", 0).is_some());
        assert_eq!(
            told(0, "teacher", 1).as_deref(),
            Some("digits: teacher: training, epoch 1/9")
        );
        assert_eq!(told(1_000, "teacher", 1), None);
        assert_eq!(
            told(1_500, "teacher", 2),
            None,
            "epochs of a second each would be a flood"
        );
        assert!(
            told(1_500, "candidate(6)", 1).is_some(),
            "another stage has its own pace"
        );
        assert!(told(3_000, "teacher", 2).is_some());
        assert_eq!(told(12_900, "teacher", 2), None);
        assert!(told(13_000, "teacher", 2).is_some());
    }
}
