//! Meets a gang at a chosen moment, by stopping one of its ranks and looking whether it was the moment.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nettailor_proto::v1::{Stage, StageState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::MissedTickBehavior;

use crate::cluster::Cluster;
use crate::ledger::{self, Entry};
use crate::process::{PATIENCE, process_state, trainers_of};
use crate::watch;

/// How often a gang is looked at; its steps take some ten times as long.
const GLANCE: Duration = Duration::from_millis(1);
/// A rank that did nothing for so long waits for another one.
const BLOCKED: Duration = Duration::from_millis(500);

/// When a gang comes to harm.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// Between two steps of an epoch, when there is a checkpoint to go on from.
    MidEpoch,
    /// While the other rank waits for this one's part of a sum.
    MidAllReduce,
    /// While a checkpoint is being written. Rank 0 does that.
    MidCheckpoint,
}

/// The stage that is met, and who trains it.
pub struct Gang<'a> {
    cluster: &'a Cluster,
    job: String,
    stage: String,
    /// By rank.
    trainers: Vec<Pid>,
    /// The folder of rank 0's attempt.
    folder: PathBuf,
}

impl<'a> Gang<'a> {
    /// Waits until a stage of `job` runs as a gang of two.
    pub async fn of(cluster: &'a Cluster, job: &str, stage: &str) -> anyhow::Result<Self> {
        eventually(
            &format!("a gang for {stage}"),
            Duration::from_millis(20),
            async || {
                let state = state(cluster, job, stage).await?;
                ensure!(state.state() != StageState::Done, "{stage} is done: {state:?}");
                if state.state() != StageState::Running {
                    return Ok(None);
                }
                let agents = state.workers.iter().map(|name| cluster.worker(name));
                let agents = agents.collect::<anyhow::Result<Vec<_>>>()?;
                let trainers = agents.iter().map(|agent| trainers_of(agent.pid()));
                let trainers = trainers.collect::<anyhow::Result<Vec<_>>>()?.concat();
                let folder = state
                    .workers
                    .first()
                    .and_then(|name| attempt_folder(cluster, name, state.attempt));
                // Both have noted a step: they are in the midst of training.
                let training =
                    (0..2).all(|rank| last_entry(cluster, stage, rank).is_ok_and(|entry| entry.is_some()));
                Ok(match folder {
                    Some(folder) if training && agents.len() == 2 && trainers.len() == 2 => Some(Self {
                        cluster,
                        job: job.to_owned(),
                        stage: stage.to_owned(),
                        trainers,
                        folder,
                    }),
                    _ => None,
                })
            },
        )
        .await
    }

    /// The job whose stage it is.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The stage's kind.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// The trainer of a rank.
    pub fn trainer(&self, rank: usize) -> Pid {
        self.trainers[rank]
    }

    /// Stops `rank` (SIGSTOP) at `moment`.
    pub async fn stop(&self, rank: usize, moment: Moment) -> anyhow::Result<()> {
        let what = format!("{moment:?} of {}", self.stage);
        if let Moment::MidEpoch = moment {
            eventually("a checkpoint", Duration::from_millis(20), async || {
                let state = state(self.cluster, &self.job, &self.stage).await?;
                Ok(state.checkpoint_epoch.map(drop))
            })
            .await?;
        }
        let victim = self.trainer(rank);
        eventually(&what, GLANCE, async || {
            if !self.is(moment, rank)? {
                return Ok(None);
            }
            kill(victim, Signal::SIGSTOP)?;
            while process_state(victim)? != Some('T') {
                tokio::task::yield_now().await;
            }
            if self.is(moment, rank)? {
                return Ok(Some(()));
            }
            // It was over before it stopped.
            kill(victim, Signal::SIGCONT)?;
            Ok(None)
        })
        .await?;
        if let Moment::MidAllReduce = moment {
            self.until_blocked(1 - rank).await?;
        }
        Ok(())
    }

    /// Whether it is the moment, by what can be seen from outside.
    fn is(&self, moment: Moment, rank: usize) -> anyhow::Result<bool> {
        ensure!(
            process_state(self.trainer(rank))?.is_some(),
            "{} ended before {moment:?}",
            self.stage
        );
        match moment {
            Moment::MidEpoch => {
                let last = last_entry(self.cluster, &self.stage, rank as u32)?.context("it trains")?;
                let epoch = self.steps_per_epoch()?;
                Ok(last.epoch > 1 && (last.step + 1) % epoch != 0)
            }
            Moment::MidAllReduce => Ok(true),
            Moment::MidCheckpoint => {
                let files = std::fs::read_dir(&self.folder)?;
                let mut files = files.filter_map(|file| file.ok().map(|file| file.file_name()));
                Ok(files.any(|name| {
                    let name = name.to_string_lossy();
                    name.starts_with("checkpoint-") && name.ends_with(".partial")
                }))
            }
        }
    }

    fn steps_per_epoch(&self) -> anyhow::Result<u64> {
        let entries = ledger::read(&self.cluster.ledger())?;
        let first = entries
            .iter()
            .filter(|entry| entry.stage == self.stage && entry.rank == 0 && entry.epoch == 0);
        Ok(first.count().max(1) as u64)
    }

    /// Waits until a rank sleeps and goes on sleeping: its next step needs the other one.
    async fn until_blocked(&self, rank: usize) -> anyhow::Result<()> {
        let look = || -> anyhow::Result<_> {
            let last = last_entry(self.cluster, &self.stage, rank as u32)?;
            Ok((process_state(self.trainer(rank))?, last.map(|entry| entry.step)))
        };
        let mut before = None;
        eventually("a rank that waits", BLOCKED, async || {
            let now = look()?;
            ensure!(now.0.is_some(), "rank {rank} has ended");
            let blocked = now.0 == Some('S') && before.as_ref() == Some(&now);
            before = Some(now);
            Ok(blocked.then_some(()))
        })
        .await
    }

    /// Waits until these ranks' trainers are gone.
    pub async fn until_ended(&self, ranks: &[usize]) -> anyhow::Result<()> {
        eventually("the ranks' end", Duration::from_millis(20), async || {
            let states = ranks.iter().map(|rank| process_state(self.trainer(*rank)));
            let gone = states
                .collect::<anyhow::Result<Vec<_>>>()?
                .iter()
                .all(Option::is_none);
            Ok(gone.then_some(()))
        })
        .await
    }

    /// Waits until another attempt of the stage has begun.
    pub async fn until_tried_again(&self) -> anyhow::Result<()> {
        eventually("the second attempt", Duration::from_millis(20), async || {
            let state = state(self.cluster, &self.job, &self.stage).await?;
            Ok((state.attempt > 1).then_some(()))
        })
        .await
    }
}

/// Looks again and again until there is something to see; fails after [`PATIENCE`].
pub async fn eventually<T>(
    what: &str,
    every: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let seen = async {
        let mut glances = tokio::time::interval(every);
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            glances.tick().await;
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .with_context(|| format!("waiting for {what}"))?
}

async fn state(cluster: &Cluster, job: &str, stage: &str) -> anyhow::Result<Stage> {
    let job = watch::get(&cluster.address(), job).await?;
    Ok(watch::stage(&job, stage).clone())
}

fn last_entry(cluster: &Cluster, stage: &str, rank: u32) -> anyhow::Result<Option<Entry>> {
    let entries = ledger::read(&cluster.ledger())?.into_iter();
    let of_rank = entries.filter(|entry| entry.stage == stage && entry.rank == rank);
    Ok(of_rank.max_by_key(|entry| (entry.attempt.clone(), entry.step)))
}

/// Where the trainer of rank 0 leaves its files.
fn attempt_folder(cluster: &Cluster, worker: &str, attempt: u32) -> Option<PathBuf> {
    let attempts = cluster.folder().join(format!("cache-{worker}/attempts/{worker}"));
    let folders = std::fs::read_dir(attempts).ok()?;
    let mut folders = folders.filter_map(|folder| folder.ok().map(|folder| folder.path()));
    // `<stage>-<attempt>-<rank>-<random>`
    folders.find(|folder| folder.to_string_lossy().contains(&format!("-{attempt}-0-")))
}
