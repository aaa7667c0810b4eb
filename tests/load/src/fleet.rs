//! Simulated workers.

mod agent;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nettailor_domain::ids::Seat;
use nettailor_domain::stage::StageKind;
use nettailor_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use crate::results::Results;
use crate::site::{self, Site};
use agent::Agent;

/// Where nothing at all happens for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// When stages end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Done as soon as it is assigned.
    AtOnce,
    /// At [`Fleet::finish`].
    Hold,
    /// A stage's first attempt at [`Fleet::finish`], later ones at once.
    HoldFirst,
}

/// What workers to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many.
    pub workers: usize,
    /// Stages that each runs at a time.
    pub slots: u32,
    /// When these end.
    pub conduct: Conduct,
}

/// Something that a worker saw.
#[derive(Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Which worker, from 0.
    pub worker: usize,
    /// What.
    pub what: What,
}

/// See [`Seen`].
#[derive(Debug)]
pub enum What {
    /// Its session was welcomed, and it has said that it is ready.
    Attached,
    /// Its session ended, for this reason; or none could be opened.
    Parted(String),
    /// A rank was assigned to it.
    Assigned {
        /// Which.
        seat: Seat,
        /// Of what stage.
        kind: StageKind,
        /// Task and stage in words.
        description: String,
    },
    /// The end of a rank is durable.
    Acknowledged(Seat),
    /// It was told to stop a rank.
    Stopped(Seat),
}

/// What a worker is told by whoever measures.
#[derive(Debug)]
enum Command {
    Finish,
    Progress(Box<v1::SeatProgress>),
}

/// Workers, each with a connection of its own. Dropped, they vanish.
#[derive(Debug)]
pub struct Fleet {
    settings: Settings,
    endpoint: Endpoint,
    results: Arc<Mutex<Results>>,
    members: Vec<Member>,
    tell: mpsc::UnboundedSender<Seen>,
    seen: mpsc::UnboundedReceiver<Seen>,
    latest_trouble: String,
}

#[derive(Debug)]
struct Member {
    commands: mpsc::UnboundedSender<Command>,
    life: JoinHandle<()>,
    /// How many workers had this number before.
    generation: usize,
}

impl Fleet {
    /// Starts workers. They report results whose weights are the site's blob.
    ///
    /// # Errors
    /// Where the site's URL is none.
    pub fn start(site: &Site, settings: Settings) -> anyhow::Result<Self> {
        // Both are bounded by what the coordinator does: it assigns nothing into a slot that it has not seen freed.
        let (tell, seen) = mpsc::unbounded_channel();
        let mut fleet = Self {
            settings,
            endpoint: site::endpoint(site.url())?,
            results: Arc::new(Mutex::new(Results::new(site.blob()))),
            members: Vec::with_capacity(settings.workers),
            tell,
            seen,
            latest_trouble: "nothing broke".to_owned(),
        };
        for worker in 0..settings.workers {
            let member = fleet.member(worker, 0);
            fleet.members.push(member);
        }
        Ok(fleet)
    }

    fn member(&self, worker: usize, generation: usize) -> Member {
        let (commands, told) = mpsc::unbounded_channel();
        let agent = Agent::new(
            worker,
            format!("load-{worker}.{generation}"),
            self.settings,
            self.endpoint.clone(),
            self.results.clone(),
            told,
            self.tell.clone(),
        );
        Member {
            commands,
            life: tokio::spawn(agent.run()),
            generation,
        }
    }

    /// What was seen next. Cancel-safe.
    ///
    /// # Errors
    /// Where nothing is seen for too long.
    pub async fn next(&mut self) -> anyhow::Result<Seen> {
        let waited = tokio::time::timeout(PATIENCE, self.seen.recv()).await;
        let seen = waited.ok().flatten().with_context(|| {
            let trouble = &self.latest_trouble;
            format!(
                "nothing happened for {} s; the latest trouble: {trouble}",
                PATIENCE.as_secs()
            )
        })?;
        if let What::Parted(reason) = &seen.what {
            self.latest_trouble = format!("worker {}: {reason}", seen.worker);
        }
        Ok(seen)
    }

    /// Waits until all have a session; nothing may be assigned meanwhile.
    ///
    /// # Errors
    /// Where that does not come about, or something else happens.
    pub async fn attached(&mut self) -> anyhow::Result<()> {
        let mut attached = HashSet::new();
        while attached.len() < self.members.len() {
            let Seen { worker, what, .. } = self.next().await?;
            match what {
                What::Attached => attached.insert(worker),
                What::Parted(_) => attached.remove(&worker),
                other => bail!("while workers were connecting: {other:?}"),
            };
        }
        Ok(())
    }

    /// Waits until so many slots are taken; says where, by what, and that in words. Nothing may end meanwhile.
    ///
    /// # Errors
    /// Where that does not come about, or something else happens.
    pub async fn assigned(&mut self, count: usize) -> anyhow::Result<Vec<(usize, Seat, String)>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let Seen { worker, what, .. } = self.next().await?;
            match what {
                What::Assigned {
                    seat, description, ..
                } => taken.push((worker, seat, description)),
                What::Attached | What::Parted(_) => {}
                other => bail!("while stages were being assigned: {other:?}"),
            }
        }
        Ok(taken)
    }

    /// Ends what a worker holds, well.
    pub fn finish(&self, worker: usize) {
        // A worker that vanished has nothing to finish.
        let _ = self.members[worker].commands.send(Command::Finish);
    }

    /// Has a worker report progress.
    pub fn report(&self, worker: usize, seat: Seat, progress: v1::Progress) {
        let report = v1::SeatProgress {
            seat: Some(seat.into()),
            progress: Some(progress),
        };
        let _ = self.members[worker]
            .commands
            .send(Command::Progress(Box::new(report)));
    }

    /// Breaks a worker's connection as its death would, and starts another with a new name in its place.
    pub fn replace(&mut self, worker: usize) {
        let dead = &self.members[worker];
        dead.life.abort();
        self.members[worker] = self.member(worker, dead.generation + 1);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &self.members {
            member.life.abort();
        }
    }
}
