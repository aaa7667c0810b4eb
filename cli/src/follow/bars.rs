//! Live bars on a terminal: a line per job, under it one per running stage.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nettailor_domain::trainer::Progress;

use super::text;
use crate::output::first_line;
use crate::views::{JobView, StageState};

/// The bars of all jobs.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    jobs: Vec<JobBars>,
}

#[derive(Debug)]
struct JobBars {
    head: ProgressBar,
    /// By the stage's kind.
    stages: HashMap<String, ProgressBar>,
}

impl Bars {
    /// One line for each job.
    pub(super) fn new(jobs: &[JobView]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix:.bold} {wide_msg}").expect("the template is valid");
        let head = |job: &JobView| {
            let bar = all.add(
                ProgressBar::new(1)
                    .with_style(style.clone())
                    .with_prefix(job.task.clone()),
            );
            bar.set_message(job.state.as_str());
            JobBars {
                head: bar,
                stages: HashMap::new(),
            }
        };
        let jobs = jobs.iter().map(head).collect();
        Self { all, jobs }
    }

    /// Shows the job's state and removes the bars of stages that do not run any more.
    pub(super) fn job(&mut self, index: usize, job: &JobView) {
        let bars = &mut self.jobs[index];
        let done = job
            .stages
            .iter()
            .filter(|stage| stage.state == StageState::Done)
            .count();
        let running = |kind: &str| {
            job.stages
                .iter()
                .any(|s| s.kind == kind && s.state == StageState::Running)
        };
        let mut message = match job.state.is_final() {
            true => job.ending(),
            false => format!(
                "{}, {done} of {} stages done",
                job.state.as_str(),
                job.stages.len()
            ),
        };
        let waits =
            !job.state.is_final() && !job.stages.iter().any(|stage| stage.state == StageState::Running);
        if waits && !job.reason.is_empty() {
            message = format!("{message}; {}", first_line(&job.reason));
        }
        bars.head.set_message(message);
        bars.stages.retain(|kind, bar| {
            let keep = running(kind);
            if !keep {
                bar.finish_and_clear();
            }
            keep
        });
        for stage in job
            .stages
            .iter()
            .filter(|stage| stage.state == StageState::Running)
        {
            if let Some(progress) = &stage.progress {
                self.progress(index, &stage.kind, progress);
            }
        }
    }

    /// Shows how far a stage is.
    pub(super) fn progress(&mut self, index: usize, stage: &str, progress: &Progress) {
        let bars = &mut self.jobs[index];
        let bar = bars.stages.entry(stage.to_owned()).or_insert_with(|| {
            let style =
                ProgressStyle::with_template("  {prefix:13} {bar:16.blue} {pos:>5}/{len:5} {wide_msg}");
            let style = style.expect("the template is valid").progress_chars("━╸─");
            let bar = ProgressBar::new(0)
                .with_style(style)
                .with_prefix(stage.to_owned());
            self.all.insert_after(&bars.head, bar)
        });
        bar.update(|state| {
            state.set_len(progress.steps);
            state.set_pos(progress.step);
        });
        bar.set_message(text::beside_bar(progress));
    }

    /// A line above the bars.
    pub(super) fn say(&self, line: &str) {
        // A closed stderr is no reason to stop the work.
        let _ = self.all.println(line);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // What the bars said last stands in the lines above them.
        let _ = self.all.clear();
    }
}
