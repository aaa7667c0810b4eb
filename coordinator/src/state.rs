//! Everything the driver's thread owns but the store.

use std::collections::{BTreeMap, HashMap};

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, JobId, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::error::RestoreError;
use nettailor_scheduler::event::Now;
use nettailor_scheduler::record::{Record, StageState};
use nettailor_scheduler::view::{JobView, StagePhase};
use nettailor_scheduler::{Config, Scheduler};

use crate::ambient::JobIds;
use crate::store::Row;

/// What the coordinator knows.
pub(crate) struct State {
    pub(crate) scheduler: Scheduler,
    pub(crate) backbones: BTreeMap<BackboneName, BackboneRecord>,
    pub(crate) ids: JobIds,
    /// Latest report of running attempts. Not kept: the next report comes within seconds.
    progress: HashMap<StageKey, (u32, Progress)>,
}

/// A job with the latest reports of its running stages.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) view: JobView,
    pub(crate) progress: HashMap<StageKey, Progress>,
}

impl State {
    /// The state that rows were kept of.
    pub(crate) fn restore(
        config: Config,
        rows: Vec<Row>,
        ids: JobIds,
        now: Now,
    ) -> Result<Self, RestoreError> {
        let (mut records, mut backbones) = (Vec::new(), BTreeMap::new());
        for row in rows {
            match row {
                Row::Record(record) => records.push(record),
                Row::Backbone(backbone) => {
                    backbones.insert(backbone.arch, backbone);
                }
            }
        }
        let scheduler = Scheduler::restore(config, records, now)?;
        Ok(Self {
            scheduler,
            backbones,
            ids,
            progress: HashMap::new(),
        })
    }

    /// A job as it is shown.
    pub(crate) fn job(&self, id: &JobId) -> Option<Job> {
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
    pub(crate) fn report(&mut self, attempt: Attempt, progress: Progress) {
        self.progress.insert(attempt.stage, (attempt.number, progress));
    }

    /// Forgets how far stages were that do not run any more, however that came: their rows say so.
    pub(crate) fn forget_progress(&mut self, changed: &[Row]) {
        for row in changed {
            if let Row::Record(Record::Stage(stage)) = row
                && !matches!(stage.state, StageState::Running { .. })
            {
                self.progress.remove(&stage.planned.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nettailor_domain::ids::Digest;
    use nettailor_domain::stage::plan;
    use nettailor_domain::task::{BackboneInput, DataInput, TaskInputs};
    use nettailor_domain::taskfile::TasksFile;
    use nettailor_domain::trainer::{Failure, FailureClass};
    use nettailor_scheduler::record::{RankRecord, StageRecord};

    use super::*;

    #[test]
    fn progress_is_kept_while_a_stage_runs() {
        let text = "version: 1\nbackbone: lite0\ntasks:\n  - {name: digits, data: {path: digits}}\n";
        let task = TasksFile::parse(text).unwrap().tasks.remove(0);
        let inputs = TaskInputs {
            backbone: BackboneInput::Weights(Digest::of(b"backbone")),
            data: DataInput {
                archive: Digest::of(b"data"),
                classes: vec!["zero".into(), "one".into()],
            },
        };
        let planned = plan(BackboneName::Lite0, &task, &inputs).remove(0);
        let attempt = Attempt {
            stage: planned.key,
            number: 1,
        };
        let row = |state| {
            Row::Record(Record::Stage(Box::new(StageRecord {
                planned: planned.clone(),
                input_bytes: [1, 2],
                attempts: 1,
                faults: 0,
                losses: 0,
                returns: 0,
                checkpoint: None,
                state,
            })))
        };
        let failure = Failure {
            class: FailureClass::Input,
            message: "no images".into(),
        };
        let now = Now {
            elapsed: std::time::Duration::ZERO,
            listened: std::time::Duration::ZERO,
            wall_ms: 0,
        };
        let mut state = State::restore(Config::default(), vec![], JobIds::from_system(), now).unwrap();
        let worker = "w".parse().unwrap();
        state.report(attempt, Progress::default());
        state.forget_progress(&[row(StageState::Running {
            ranks: vec![RankRecord { worker, done: false }],
            result: None,
            started_ms: 1,
        })]);
        assert_eq!(state.progress.len(), 1);
        for ended in [StageState::Pending, StageState::Failed { failure }] {
            state.report(attempt, Progress::default());
            state.forget_progress(&[row(ended)]);
            assert!(state.progress.is_empty());
        }
    }
}
