//! A coordinator in this process, and the workers of `run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nettailor_coordinator::{self as coordinator, Coordinator};
use nettailor_domain::ids::WorkerId;
use nettailor_proto::exit::Exit;
use nettailor_worker as worker;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// State directory of `run` and `--local`, unless told otherwise, below the working directory. Not the one that
/// `nettailor-coordinator` takes: `run` ends the jobs that an earlier run left open in it.
pub(crate) const STATE_DIR: &str = ".nettailor/run";

/// Why the coordinator or a worker of this process does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `--local` names a directory that holds no state.
    #[error("there is no state in {}", .0.display())]
    NoState(PathBuf),
    /// The coordinator cannot start, or broke.
    #[error("the coordinator of this process cannot work on {}", state.display())]
    Coordinator {
        /// The state directory.
        state: PathBuf,
        /// Why.
        #[source]
        source: Box<coordinator::Error>,
    },
    /// A worker cannot start, or broke.
    #[error("a worker of this process cannot work")]
    Worker(#[source] worker::Error),
    /// A thread panicked.
    #[error("a part of this process broke; this is a defect")]
    Broken(#[source] JoinError),
    /// The coordinator ended without being asked to.
    #[error("the coordinator or a worker of this process ended by itself")]
    Ended,
}

/// The workers of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crew {
    /// Agents.
    pub(crate) workers: u32,
    /// Trainers of each at a time.
    pub(crate) slots: u32,
    /// CPU threads of each trainer.
    pub(crate) threads: u32,
    /// The trainer's program; the one beside this program by default.
    pub(crate) trainer: Option<PathBuf>,
}

impl Error {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NoState(_) => Exit::NotFound,
            Self::Coordinator { source, .. } => source.exit(),
            Self::Worker(error) => error.exit(),
            Self::Broken(_) | Self::Ended => Exit::Failed,
        }
    }

    /// Whether another process works on the state directory.
    fn locked(&self) -> bool {
        use coordinator::store::Error::Locked;
        let Self::Coordinator { source, .. } = self else {
            return false;
        };
        matches!(**source, coordinator::Error::Store(Locked { .. }))
    }

    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoState(_) => "`nettailor-cli run FILE` makes one; name another with --local=DIR".into(),
            _ if self.locked() => {
                "wait for the other command, or ask its coordinator with --coordinator".into()
            }
            Self::Ended => "the same command goes on where this one stopped; -v shows the log".into(),
            // Each of these says itself what to do.
            Self::Coordinator { .. } | Self::Worker(_) | Self::Broken(_) => return None,
        })
    }
}

/// A coordinator, and perhaps workers, that live in this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    url: String,
    state: PathBuf,
    /// The workers leave first, so that the coordinator hears their last words.
    leave: CancellationToken,
    shutdown: CancellationToken,
    coordinator: JoinSet<Result<(), Error>>,
    workers: JoinSet<Result<(), Error>>,
}

impl Embedded {
    /// Starts a coordinator on the state directory, which is made if there is none. No worker, so nothing is trained.
    pub(crate) async fn open(state: &Path) -> Result<Self, Error> {
        let config = coordinator::Config::local(state.to_owned());
        let started = Coordinator::start(config)
            .await
            .map_err(|source| broken(state, source))?;
        let (shutdown, mut coordinator) = (CancellationToken::new(), JoinSet::new());
        let url = format!("http://{}", started.address());
        let (stop, path) = (shutdown.clone(), state.to_owned());
        coordinator.spawn(async move {
            let ended = started.run(stop).await;
            ended.map_err(|source| broken(&path, source))
        });
        let workers = JoinSet::new();
        Ok(Self {
            url,
            state: state.to_owned(),
            leave: CancellationToken::new(),
            shutdown,
            coordinator,
            workers,
        })
    }

    /// Like [`Embedded::open`], for a state directory that must be there.
    pub(crate) async fn open_existing(state: &Path) -> Result<Self, Error> {
        if !coordinator::store::SledStore::exists(state) {
            return Err(Error::NoState(state.to_owned()));
        }
        Self::open(state).await
    }

    /// Where the coordinator answers, on this machine only.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Starts workers that share one blob cache.
    pub(crate) fn hire(&mut self, crew: &Crew) -> Result<(), Error> {
        let cache_dir = self.state.join("cache");
        let usual = worker::Config::local(self.url.clone(), cache_dir.clone(), crew.slots);
        let cache = worker::cache::BlobCache::open(&cache_dir, usual.cache_bytes);
        let cache = Arc::new(cache.map_err(|source| Error::Worker(worker::Error::Cache(source)))?);
        for number in 1..=crew.workers {
            // Agents do not know of each other: each begins with other GPUs.
            let mut gpus = usual.gpus.clone();
            let before = (number - 1) as usize * crew.slots as usize;
            let start = before % gpus.len().max(1);
            gpus.rotate_left(start);
            let config = worker::Config {
                gpus,
                name: name(number),
                threads_per_slot: crew.threads,
                trainer: crew.trainer.clone().unwrap_or_else(|| usual.trainer.clone()),
                // When the run ends nothing is worth waiting for: it has finished, or somebody wants it to stop.
                drain: Duration::ZERO,
                ..usual.clone()
            };
            let agent = worker::Agent::with_cache(config, cache.clone()).map_err(Error::Worker)?;
            let leave = self.leave.clone();
            self.workers
                .spawn(async move { agent.run(leave).await.map_err(Error::Worker) });
        }
        Ok(())
    }

    /// Resolves when the coordinator or a worker ends without being asked to.
    pub(crate) async fn failure(&mut self) -> Error {
        let ended = tokio::select! {
            Some(ended) = self.coordinator.join_next() => ended,
            Some(ended) = self.workers.join_next() => ended,
        };
        match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::Ended,
            Err(source) => Error::Broken(source),
        }
    }

    /// Lets the workers leave and closes the state directory. Dropped instead, everything ends at once, and nothing that
    /// was acknowledged is lost.
    pub(crate) async fn close(mut self) -> Result<(), Error> {
        self.leave.cancel();
        let left = all(&mut self.workers).await;
        self.shutdown.cancel();
        all(&mut self.coordinator).await.and(left)
    }
}

fn broken(state: &Path, source: coordinator::Error) -> Error {
    Error::Coordinator {
        state: state.to_owned(),
        source: Box::new(source),
    }
}

/// Waits for all tasks; the first error counts.
async fn all(tasks: &mut JoinSet<Result<(), Error>>) -> Result<(), Error> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        result = result.and(ended.unwrap_or_else(|source| Err(Error::Broken(source))));
    }
    result
}

fn name(number: u32) -> WorkerId {
    format!("local-{number}")
        .parse()
        .expect("`local-` and a number is a worker name")
}
