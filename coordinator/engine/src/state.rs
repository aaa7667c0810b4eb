//! Everything that is known.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, JobId, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::error::RestoreError;
use nettailor_scheduler::event::Now;
use nettailor_scheduler::record::{Record, StageState};
use nettailor_scheduler::view::{JobView, StagePhase};
use nettailor_scheduler::{Config, Scheduler};

use crate::row::{Row, RowKey};

/// What the coordinator knows.
#[derive(Debug)]
pub struct State {
    /// Jobs, stages, workers, models.
    pub scheduler: Scheduler,
    /// Imported backbones.
    pub backbones: BTreeMap<BackboneName, BackboneRecord>,
    /// Latest report of running attempts.
    progress: HashMap<StageKey, (u32, Progress)>,
}

/// A job with the latest reports of its running stages.
#[derive(Debug, Clone)]
pub struct Job {
    /// The job.
    pub view: JobView,
    /// How far its running stages are.
    pub progress: HashMap<StageKey, Progress>,
}

impl State {
    /// The time up to which rows were kept: a restored state goes on from there.
    pub fn elapsed(rows: &[Row]) -> Duration {
        let clock = rows.iter().find_map(|row| match row {
            Row::Clock(elapsed) => Some(*elapsed),
            _ => None,
        });
        clock.unwrap_or_default()
    }

    /// The number of the latest commit that went into the journal.
    pub fn journalled(rows: &[Row]) -> u64 {
        let number = rows.iter().find_map(|row| match row {
            Row::Journalled(number) => Some(*number),
            _ => None,
        });
        number.unwrap_or_default()
    }

    /// The state that rows were kept of.
    ///
    /// # Errors
    /// The rows contradict each other.
    pub fn restore(config: Config, rows: Vec<Row>, now: Now) -> Result<Self, RestoreError> {
        let mut records = Vec::with_capacity(rows.len());
        let (mut backbones, mut progress) = (BTreeMap::new(), HashMap::new());
        for row in rows {
            match row {
                Row::Record(record) => records.push(record),
                Row::Backbone(backbone) => {
                    backbones.insert(backbone.arch, backbone);
                }
                Row::Progress(attempt, report) => {
                    progress.insert(attempt.stage, (attempt.number, report));
                }
                Row::Clock(_) | Row::Journalled(_) => {}
            }
        }
        let scheduler = Scheduler::restore(config, records, now)?;
        Ok(Self {
            scheduler,
            backbones,
            progress,
        })
    }

    /// A job as it is shown.
    pub fn job(&self, id: &JobId) -> Option<Job> {
        let view = self.scheduler.job(id)?;
        let running = view
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Running);
        let progress = running
            .filter_map(|stage| match self.progress.get(&stage.key) {
                Some((attempt, progress)) if *attempt == stage.attempt => Some((stage.key, progress.clone())),
                _ => None,
            })
            .collect();
        Some(Job { view, progress })
    }

    /// Remembers how far a current attempt is.
    pub(crate) fn report(&mut self, attempt: Attempt, progress: Progress) -> Row {
        let row = Row::Progress(attempt, progress.clone());
        self.progress.insert(attempt.stage, (attempt.number, progress));
        row
    }

    /// Forgets how far stages were that do not run any more, however that came: their records say so.
    pub(crate) fn forget_progress(&mut self, changed: &[Record]) -> Vec<RowKey> {
        let ended = changed.iter().filter_map(|record| match record {
            Record::Stage(stage) if !matches!(stage.state, StageState::Running { .. }) => Some(stage.key),
            _ => None,
        });
        ended
            .filter(|key| self.progress.remove(key).is_some())
            .map(RowKey::Progress)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use nettailor_domain::ids::Digest;
    use nettailor_domain::trainer::FailureClass;
    use nettailor_scheduler::record::StageRecord;
    use nettailor_scheduler::testing;

    use super::*;

    #[test]
    fn progress_is_kept_while_a_stage_runs() {
        let attempt = Attempt {
            stage: StageKey(Digest::of(b"teacher")),
            number: 1,
        };
        let record = |state| {
            [Record::Stage(Box::new(StageRecord {
                attempts: 1,
                state,
                ..StageRecord::new(attempt.stage)
            }))]
        };
        let now = Now {
            elapsed: Duration::ZERO,
            listened: Duration::ZERO,
            wall_ms: 0,
        };
        let mut state = State::restore(Config::default(), vec![], now).expect("nothing to contradict");
        let row = state.report(attempt, Progress::default());
        assert!(state.forget_progress(&record(testing::running())).is_empty());
        let failure = testing::failure(FailureClass::Input);
        for ended in [StageState::Pending, StageState::Failed { failure }] {
            state.report(attempt, Progress::default());
            assert_eq!(state.forget_progress(&record(ended)), [row.key()]);
            assert!(state.progress.is_empty());
        }
    }
}
