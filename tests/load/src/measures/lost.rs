//! Workers that die in the middle of a stage.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use nettailor_domain::ids::{Seat, StageKey};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::ambient::now;
use crate::fleet::{Conduct, Fleet, Seen, Settings, What};
use crate::samples::{Quantiles, Samples};
use crate::site::{STAGES_PER_JOB, Site};

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct Lost {
    /// Workers that die
    #[arg(long, default_value_t = 100)]
    pub repetitions: usize,
    /// Milliseconds between two deaths: rarely enough that they are not taken for trouble of the coordinator's own
    #[arg(long, default_value_t = 500)]
    pub every_ms: u64,
    /// Workers, of one slot each; half of them run a stage
    #[arg(long, default_value_t = 60)]
    pub workers: usize,
}

/// Figures.
#[derive(Debug, Serialize)]
pub struct Recovered {
    /// As asked for.
    pub workers: usize,
    /// From the end of a worker's connection to the assignment of its stage to another.
    pub reassigned: Quantiles,
}

/// Measures it.
///
/// # Errors
/// Where the coordinator does not do its part.
pub async fn lost(site: &Site, asked: Lost) -> anyhow::Result<Recovered> {
    let jobs = asked.workers / 2;
    let most = jobs * STAGES_PER_JOB;
    ensure!(
        asked.repetitions <= most,
        "so many workers have {most} stages to lose at most"
    );
    let mut fleet = Fleet::start(
        site,
        Settings {
            workers: asked.workers,
            slots: 1,
            // A stage is lost once: what was lost often is given up.
            conduct: Conduct::HoldFirst,
        },
    )?;
    fleet.attached().await?;
    // A job whose lost stage is done goes on to its next, which can be lost, too.
    site.fill(jobs, 1).await?;
    let mut held = HashMap::<usize, Seat>::new();
    let mut bereft = HashMap::<StageKey, Instant>::new();
    let mut samples = Samples::default();
    let mut deaths = 0;
    let mut due = interval(Duration::from_millis(asked.every_ms));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while samples.count() < asked.repetitions {
        tokio::select! {
            _ = due.tick(), if deaths < asked.repetitions => {
                let Some(worker) = held.keys().next().copied() else { continue };
                if let Some(seat) = held.remove(&worker) {
                    bereft.insert(seat.attempt.stage, now());
                    fleet.replace(worker);
                    deaths += 1;
                }
            }
            seen = fleet.next() => {
                let Seen { at, worker, what } = seen?;
                if let What::Assigned { seat, .. } = what {
                    match bereft.remove(&seat.attempt.stage) {
                        Some(death) => samples.add(at.saturating_duration_since(death)),
                        None => {
                            held.insert(worker, seat);
                        }
                    }
                }
            }
        }
    }
    Ok(Recovered {
        workers: asked.workers,
        reassigned: samples.quantiles(),
    })
}
