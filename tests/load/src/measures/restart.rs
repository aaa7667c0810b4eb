//! A coordinator that is killed and comes back, by whoever started this program.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use nettailor_domain::ids::Seat;
use nettailor_proto::v1;
use serde::Serialize;
use tokio::time::timeout;

use crate::ambient::now;
use crate::fleet::{Conduct, Fleet, Settings, What};
use crate::samples::seconds;
use crate::site::{Accepted, Site};

/// Between two questions whether it is back.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// A stage that was lost would be assigned anew, or stopped, within this time.
const SETTLE: Duration = Duration::from_secs(3);

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct Restart {
    /// Jobs
    #[arg(long, default_value_t = 50_000)]
    pub jobs: usize,
    /// Workers
    #[arg(long, default_value_t = 1000)]
    pub workers: usize,
    /// Slots of each; a stage runs in every one
    #[arg(long, default_value_t = 2)]
    pub slots: u32,
}

/// Figures.
#[derive(Debug, Serialize)]
pub struct Restarted {
    /// As asked for.
    pub jobs: usize,
    /// As asked for.
    pub workers: usize,
    /// Stages that ran when the coordinator was killed.
    pub running: usize,
    /// From the first broken connection to the first answer of the new coordinator.
    pub serving_seconds: f64,
    /// To its first list of workers in which all are ready.
    pub attached_seconds: f64,
    /// Running stages that were stopped, begun anew, or are not done by their first attempt in the end.
    pub lost: usize,
}

/// Measures it: `ready` is called when the coordinator is to be killed and started again on the same address.
///
/// # Errors
/// Where the coordinator does not do its part.
pub async fn restart(
    site: &Site,
    asked: Restart,
    ready: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Restarted> {
    let jobs = site.fill(asked.jobs, 1).await?;
    let mut fleet = Fleet::start(
        site,
        Settings {
            workers: asked.workers,
            slots: asked.slots,
            conduct: Conduct::Hold,
        },
    )?;
    let count = asked.workers * asked.slots as usize;
    ensure!(asked.jobs >= count, "{count} slots need as many jobs");
    let running = fleet.assigned(count).await?;
    ready()?;
    let killed = loop {
        let seen = fleet.next().await?;
        if let What::Parted(_) = seen.what {
            break seen.at;
        }
    };
    let (serving, attached) = back(site, asked.workers, killed).await?;
    let mut lost = HashSet::new();
    settle(&mut fleet, &mut lost).await?;
    for worker in 0..asked.workers {
        fleet.finish(worker);
    }
    acknowledged(&mut fleet, &running, &mut lost).await?;
    check(site, &jobs, &running, &mut lost).await?;
    Ok(Restarted {
        jobs: asked.jobs,
        workers: asked.workers,
        running: count,
        serving_seconds: seconds(serving),
        attached_seconds: seconds(attached),
        lost: lost.len(),
    })
}

/// Asks until it answers, and until all workers are ready.
async fn back(site: &Site, workers: usize, killed: Instant) -> anyhow::Result<(Duration, Duration)> {
    let mut serving = None;
    loop {
        if let Ok(answer) = site.workers().list(v1::ListWorkersRequest {}).await {
            let serving = *serving.get_or_insert(killed.elapsed());
            let answer = answer.into_inner().workers.into_iter();
            if answer
                .filter(|worker| worker.state() == v1::WorkerState::Ready)
                .count()
                == workers
            {
                return Ok((serving, killed.elapsed()));
            }
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Looks for stages that are stopped or begun anew.
async fn settle(fleet: &mut Fleet, lost: &mut HashSet<Seat>) -> anyhow::Result<()> {
    let until = now() + SETTLE;
    while let Ok(seen) = timeout(until.saturating_duration_since(now()), fleet.next()).await {
        if let What::Stopped(seat) | What::Assigned { seat, .. } = seen?.what {
            lost.insert(seat);
        }
    }
    Ok(())
}

/// Waits until the end of every stage that ran is acknowledged.
async fn acknowledged(
    fleet: &mut Fleet,
    running: &[(usize, Seat, String)],
    lost: &mut HashSet<Seat>,
) -> anyhow::Result<()> {
    let mut missing: HashSet<Seat> = running.iter().map(|(_, seat, _)| *seat).collect();
    while !missing.is_empty() {
        match fleet.next().await?.what {
            What::Acknowledged(seat) => {
                missing.remove(&seat);
            }
            What::Stopped(seat) => {
                lost.insert(seat);
            }
            What::Assigned { seat, .. } if seat.attempt.number > 1 => {
                lost.insert(seat);
            }
            What::Assigned { .. } | What::Attached | What::Parted(_) => {}
        }
    }
    Ok(())
}

/// Every stage that ran is done, by its first attempt.
async fn check(
    site: &Site,
    jobs: &[Accepted],
    running: &[(usize, Seat, String)],
    lost: &mut HashSet<Seat>,
) -> anyhow::Result<()> {
    let ids: HashMap<&str, &str> = jobs
        .iter()
        .map(|job| (job.task.as_str(), job.id.as_str()))
        .collect();
    for (_, seat, description) in running {
        let task = description.split(':').next().unwrap_or_default();
        let id = *ids
            .get(task)
            .with_context(|| format!("no task of this run: {description}"))?;
        let job = site
            .jobs()
            .get(v1::GetJobRequest { id: id.to_owned() })
            .await?
            .into_inner();
        let key = seat.attempt.stage.to_string();
        let stage = job.stages.into_iter().find(|stage| stage.key == key);
        let done = stage.is_some_and(|stage| stage.state() == v1::StageState::Done && stage.attempt == 1);
        if !done {
            lost.insert(*seat);
        }
    }
    Ok(())
}
