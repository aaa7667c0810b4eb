//! Where following is shown: lines, with bars under them where stderr is a terminal.

use nettailor_domain::trainer::Progress;
use nettailor_proto::status;
use tokio::time::Instant;

use super::Show;
use super::bars::Bars;
use super::lines::Lines;
use crate::output::Console;
use crate::views::JobView;

/// The one place that following writes to.
#[derive(Debug)]
pub(super) struct Display<'a> {
    console: &'a Console,
    show: Show,
    lines: Lines,
    bars: Option<Bars>,
    /// Watchers that have no connection now.
    away: usize,
}

impl<'a> Display<'a> {
    /// Nothing is drawn before the first event.
    pub(super) fn new(console: &'a Console, show: Show, jobs: &[JobView]) -> Self {
        let bars = (show == Show::Progress && console.live()).then(|| Bars::new(jobs));
        Self {
            console,
            show,
            lines: Lines::default(),
            bars,
            away: 0,
        }
    }

    /// Job `index` has changed.
    pub(super) fn job(&mut self, index: usize, job: &JobView) {
        for line in self.lines.job(index, job) {
            self.say(&line);
        }
        match &mut self.bars {
            // Its bar says why it waits.
            Some(bars) => bars.job(index, job),
            None => {
                if let Some(line) = self.lines.waiting(index, job) {
                    self.say(&line);
                }
            }
        }
    }

    /// A stage of job `index` reports.
    pub(super) fn progress(&mut self, index: usize, stage: &str, progress: &Progress, now: Instant) {
        match &mut self.bars {
            Some(bars) => bars.progress(index, stage, progress),
            None => {
                if let Some(line) = self.lines.progress(index, stage, progress, now) {
                    self.say(&line);
                }
            }
        }
    }

    /// A watcher lost its connection. Said once, however many there are.
    pub(super) fn away(&mut self, error: &status::Error) {
        if self.away == 0 {
            self.trouble(&format!(
                "the coordinator does not answer ({error}); trying again. The jobs are safe"
            ));
        }
        self.away += 1;
    }

    /// A watcher has its connection again.
    pub(super) fn back(&mut self) {
        self.away = self.away.saturating_sub(1);
        if self.away == 0 {
            self.trouble("the coordinator is back");
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            _ if self.show == Show::Nothing => {}
            Some(bars) => bars.say(line),
            None => self.console.note(line),
        }
    }

    fn trouble(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.say(line),
            None => self.console.note(line),
        }
    }
}
