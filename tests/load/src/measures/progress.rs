//! Running stages that report, and clients that follow them.
//!
//! A report carries the time at which it was due and a number that grows with each of its stage. What a follower receives
//! acknowledges every report up to that number, whether the coordinator passed each of them on or only the newest.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use nettailor_domain::ids::{Seat, StageKey};
use nettailor_proto::v1;
use nettailor_proto::v1::job_event::Event;
use nettailor_proto::v1::jobs_client::JobsClient;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;

use crate::ambient::now;
use crate::fleet::{Conduct, Fleet, Settings};
use crate::samples::{Quantiles, Samples};
use crate::site::{self, Site};

/// Streams on one connection of the followers: a server need not allow more than a hundred.
const STREAMS: usize = 50;
/// Reports of the second part become due together this often.
const BEAT: Duration = Duration::from_millis(2);

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct Progress {
    /// Running stages, each of a job of its own that is followed
    #[arg(long, default_value_t = 200)]
    pub jobs: usize,
    /// Workers, with enough slots for twice as many: a coordinator has something to look for at every event
    #[arg(long, default_value_t = 1000)]
    pub workers: usize,
    /// Seconds of each of the two parts, and until a report has arrived in it
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// First part, as fast as the coordinator takes them: reports of a stage on their way to its follower
    #[arg(long, default_value_t = 2)]
    pub window: u64,
    /// Second part: reports a second, however many have arrived
    #[arg(long, default_value_t = 5000)]
    pub rate: u64,
}

/// Figures.
#[derive(Debug, Serialize)]
pub struct Followed {
    /// Running stages, each with its follower.
    pub stages: usize,
    /// As fast as the coordinator takes them.
    pub most: Pace,
    /// At the rate asked for.
    pub paced: Pace,
}

/// One part.
#[derive(Debug, Serialize)]
pub struct Pace {
    /// Reports a second that were sent.
    pub sent_per_second: f64,
    /// Of these, those a second that had arrived when the part was over.
    pub arrived_per_second: f64,
    /// From when a report was due at its worker to its arrival at the follower.
    pub latency: Quantiles,
}

/// What a follower received.
struct Received {
    stage: StageKey,
    /// Number of the report, and when it was due.
    number: u64,
    due_us: u64,
    /// As an event of its own, not as a part of its job.
    alone: bool,
    at: Instant,
}

/// The running stages and how far each is.
struct Stages {
    fleet: Fleet,
    began: Instant,
    running: Vec<Running>,
    index: HashMap<StageKey, usize>,
}

struct Running {
    worker: usize,
    seat: Seat,
    sent: u64,
    arrived: u64,
}

/// Measures it.
///
/// # Errors
/// Where the coordinator does not do its part.
pub async fn progress(site: &Site, asked: Progress) -> anyhow::Result<Followed> {
    let jobs = site.fill(asked.jobs, 1).await?;
    let mut fleet = Fleet::start(
        site,
        Settings {
            workers: asked.workers,
            slots: u32::try_from((2 * asked.jobs).div_ceil(asked.workers))?,
            conduct: Conduct::Hold,
        },
    )?;
    let taken = fleet.assigned(asked.jobs).await?;
    let running: Vec<Running> = taken
        .into_iter()
        .map(|(worker, seat, _)| Running {
            worker,
            seat,
            sent: 0,
            arrived: 0,
        })
        .collect();
    let index = running
        .iter()
        .enumerate()
        .map(|(index, stage)| (stage.seat.attempt.stage, index));
    let mut stages = Stages {
        index: index.collect(),
        fleet,
        began: now(),
        running,
    };
    // Bounded by the reports on their way.
    let (send, mut received) = mpsc::unbounded_channel();
    let mut followers = JoinSet::new();
    for jobs in jobs.chunks(STREAMS) {
        let client = JobsClient::new(site::endpoint(site.url())?.connect().await?);
        for job in jobs {
            followers.spawn(follow(client.clone(), job.id.clone(), send.clone()));
        }
    }
    let duration = Duration::from_secs_f64(asked.seconds);
    let most = stages.closed(duration, asked.window, &mut received).await?;
    let paced = stages.open(duration, asked.rate, &mut received).await?;
    Ok(Followed {
        stages: asked.jobs,
        most,
        paced,
    })
}

impl Stages {
    /// One report of a stage, due now or earlier.
    fn report(&mut self, index: usize, due: Instant) {
        let stage = &mut self.running[index];
        stage.sent += 1;
        let due_us = due.saturating_duration_since(self.began).as_micros();
        let progress = v1::Progress {
            phase: "training".to_owned(),
            epoch: 1,
            epochs: 10,
            step: stage.sent,
            steps: u64::try_from(due_us).unwrap_or(u64::MAX),
            loss: 0.5,
            cross_entropy: 0.4,
            hint: 0.1,
            expected_complexity: 0.4,
            held_out: Some(0.9),
            images_per_second: 100.0,
            eta_seconds: Some(60.0),
        };
        self.fleet.report(stage.worker, stage.seat, progress);
    }

    /// Takes in what arrived; says which stage it was, and how long the report took.
    fn arrive(&mut self, received: &Received) -> Option<(usize, Option<Duration>)> {
        let index = *self.index.get(&received.stage)?;
        let stage = &mut self.running[index];
        stage.arrived = stage.arrived.max(received.number);
        let due = self.began + Duration::from_micros(received.due_us);
        let took = received.at.saturating_duration_since(due);
        Some((index, received.alone.then_some(took)))
    }

    fn totals(&self) -> (u64, u64) {
        let sums = self.running.iter().map(|stage| (stage.sent, stage.arrived));
        sums.fold((0, 0), |(sent, arrived), stage| {
            (sent + stage.0, arrived + stage.1)
        })
    }

    /// A stage's next report follows the arrival of an earlier one.
    async fn closed(
        &mut self,
        duration: Duration,
        window: u64,
        received: &mut mpsc::UnboundedReceiver<Received>,
    ) -> anyhow::Result<Pace> {
        let (begun, before) = (now(), self.totals());
        let mut latency = Samples::default();
        for index in (0..self.running.len())
            .cycle()
            .take(self.running.len() * window as usize)
        {
            self.report(index, begun);
        }
        while begun.elapsed() < duration || latency.count() == 0 {
            let arrived = receive(received).await?;
            let Some((index, took)) = self.arrive(&arrived) else {
                continue;
            };
            took.into_iter().for_each(|took| latency.add(took));
            while self.running[index].sent < self.running[index].arrived + window {
                self.report(index, now());
            }
        }
        Ok(self.pace(begun, before, &latency))
    }

    /// Reports become due whatever happens to the earlier ones.
    async fn open(
        &mut self,
        duration: Duration,
        rate: u64,
        received: &mut mpsc::UnboundedReceiver<Received>,
    ) -> anyhow::Result<Pace> {
        // What the first part left on its way must not count here.
        while self.running.iter().any(|stage| stage.arrived < stage.sent) {
            self.arrive(&receive(received).await?);
        }
        let (begun, before) = (now(), self.totals());
        let mut latency = Samples::default();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut due = 0;
        while begun.elapsed() < duration || latency.count() == 0 {
            tokio::select! {
                _ = beat.tick() => {
                    let by_now = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
                    for number in due..by_now {
                        let at = begun + Duration::from_secs_f64(number as f64 / rate as f64);
                        self.report(number as usize % self.running.len(), at);
                    }
                    due = by_now;
                }
                arrived = receive(received) => {
                    if let Some((_, Some(took))) = self.arrive(&arrived?) {
                        latency.add(took);
                    }
                }
            }
        }
        Ok(self.pace(begun, before, &latency))
    }

    fn pace(&self, begun: Instant, before: (u64, u64), latency: &Samples) -> Pace {
        let elapsed = begun.elapsed().as_secs_f64();
        let (sent, arrived) = self.totals();
        Pace {
            sent_per_second: ((sent - before.0) as f64 / elapsed).round(),
            arrived_per_second: ((arrived - before.1) as f64 / elapsed).round(),
            latency: latency.quantiles(),
        }
    }
}

async fn receive(received: &mut mpsc::UnboundedReceiver<Received>) -> anyhow::Result<Received> {
    received.recv().await.context("every follower has left")
}

/// Passes on what is said of a job's running stage until the job is final, or nobody listens.
async fn follow(
    mut client: JobsClient<Channel>,
    id: String,
    send: mpsc::UnboundedSender<Received>,
) -> anyhow::Result<()> {
    let mut events = client.watch(v1::WatchJobRequest { id }).await?.into_inner();
    while let Some(event) = events.message().await? {
        let at = now();
        let (stages, alone) = match event.event.context("an empty event")? {
            Event::Progress(report) => (vec![(report.key, report.progress)], true),
            Event::Job(job) => {
                let stages = job.stages.into_iter().map(|stage| (stage.key, stage.progress));
                (stages.collect(), false)
            }
        };
        for (key, progress) in stages {
            let Some(progress) = progress else { continue };
            let received = Received {
                stage: key.parse()?,
                number: progress.step,
                due_us: progress.steps,
                alone,
                at,
            };
            if send.send(received).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
