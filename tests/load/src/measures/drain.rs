//! Stages of no duration, from a full line to an empty one.

use std::collections::HashMap;

use clap::Args;
use nettailor_domain::ids::Seat;
use nettailor_domain::stage::StageKind;
use serde::Serialize;

use crate::ambient::now;
use crate::fleet::{Conduct, Fleet, Settings, What};
use crate::samples::{Quantiles, Samples, seconds};
use crate::site::{STAGES_PER_JOB, Site};

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct Drain {
    /// Jobs, all submitted before the first worker comes
    #[arg(long, default_value_t = 5000)]
    pub jobs: usize,
    /// Queues over which they are spread
    #[arg(long, default_value_t = 1)]
    pub queues: usize,
    /// Workers
    #[arg(long, default_value_t = 16)]
    pub workers: usize,
    /// Slots of each
    #[arg(long, default_value_t = 8)]
    pub slots: u32,
}

/// Figures.
#[derive(Debug, Serialize)]
pub struct Drained {
    /// As asked for.
    pub jobs: usize,
    /// As asked for.
    pub queues: usize,
    /// Of each job.
    pub stages_per_job: usize,
    /// Until all jobs were accepted.
    pub submit_seconds: f64,
    /// From the first assignment to the last first stage's assignment.
    pub admission_seconds: f64,
    /// From the first assignment to the last acknowledgement.
    pub seconds: f64,
    /// Stages in that time.
    pub stages_per_second: f64,
    /// From a stage's assignment, and report, to the acknowledgement that its end is durable.
    pub stage: Quantiles,
}

/// Measures it.
///
/// # Errors
/// Where the coordinator does not do its part.
pub async fn drain(site: &Site, asked: Drain) -> anyhow::Result<Drained> {
    let begun = now();
    site.fill(asked.jobs, asked.queues).await?;
    let submit_seconds = seconds(begun.elapsed());
    let mut fleet = Fleet::start(
        site,
        Settings {
            workers: asked.workers,
            slots: asked.slots,
            conduct: Conduct::AtOnce,
        },
    )?;
    let (mut first, mut last_admission) = (None, begun);
    let mut under_way = HashMap::<Seat, _>::new();
    let mut stages = Samples::default();
    let mut last = begun;
    while stages.count() < asked.jobs * STAGES_PER_JOB {
        let seen = fleet.next().await?;
        match seen.what {
            What::Assigned { seat, kind, .. } => {
                first.get_or_insert(seen.at);
                if kind == StageKind::Teacher {
                    last_admission = seen.at;
                }
                under_way.insert(seat, seen.at);
            }
            What::Acknowledged(seat) => {
                if let Some(assigned) = under_way.remove(&seat) {
                    stages.add(seen.at - assigned);
                    last = seen.at;
                }
            }
            What::Attached | What::Parted(_) | What::Stopped(_) => {}
        }
    }
    let first = first.unwrap_or(begun);
    let taken = last - first;
    Ok(Drained {
        jobs: asked.jobs,
        queues: asked.queues,
        stages_per_job: STAGES_PER_JOB,
        submit_seconds,
        admission_seconds: seconds(last_admission - first),
        seconds: seconds(taken),
        stages_per_second: (stages.count() as f64 / taken.as_secs_f64()).round(),
        stage: stages.quantiles(),
    })
}
