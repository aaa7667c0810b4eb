//! Everything the driver's thread owns but the store.

use std::collections::{BTreeMap, HashMap};

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, JobId, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::error::RestoreError;
use nettailor_scheduler::event::Now;
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

    /// Forgets how far a stage was, once it is done.
    pub(crate) fn forget_progress(&mut self, key: &StageKey) {
        self.progress.remove(key);
    }
}
