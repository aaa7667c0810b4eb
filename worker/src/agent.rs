//! The agent's life: sessions one after the other, attempts across them, and leaving in good order.

use std::convert::Infallible;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::ids::{Seat, WorkerId};
use nettailor_domain::session::{Address, Offer, Order};
use nettailor_proto::convert::session::Hello;
use nettailor_proto::status::{self, Code};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tracing::{info, warn};

use crate::attempt::{self, Node, in_full};
use crate::cache::BlobCache;
use crate::config::Config;
use crate::gpus::Gpus;
use crate::ledger::{Begin, Ledger, Report};
use crate::reports::{Reports, is_report};
use crate::session::{self, Session};
use crate::{Error, ambient, cache, http};

/// A session that was up is opened again at once. This is the longest pause before the second try; then twice as long each time,
/// up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A coordinator that comes back after hours has its workers within this time. Well below the grace that it gives them, so that its
/// restart costs no attempt.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// An agent that leaves waits at least this long for its last reports to be acknowledged.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// One worker agent, ready to run.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    endpoint: Endpoint,
    node: Arc<Node>,
    /// How attempts of an earlier life ended, which was not acknowledged.
    owed: Vec<(Seat, Report)>,
    /// Keeps a second agent of this name from using the same folders.
    _lock: File,
}

impl Agent {
    /// Checks the configuration and opens the cache.
    ///
    /// # Errors
    /// Every variant of [`Error`] but those of a session.
    pub fn new(config: Config) -> Result<Self, Error> {
        let cache = BlobCache::open(&config.cache_dir, config.cache_bytes).map_err(Error::Cache)?;
        Self::with_cache(config, Arc::new(cache))
    }

    /// Like [`Agent::new`], with a cache that other agents of this process use, too.
    ///
    /// # Errors
    /// Every variant of [`Error`] but those of a session.
    pub fn with_cache(config: Config, cache: Arc<BlobCache>) -> Result<Self, Error> {
        if config.slots == 0 || config.threads_per_slot == 0 {
            return Err(Error::NoSlots);
        }
        if !config.coordinator.starts_with("http://") {
            return Err(Error::Url {
                url: config.coordinator,
                source: None,
            });
        }
        let endpoint = session::endpoint(config.coordinator.clone()).map_err(|source| Error::Url {
            url: config.coordinator.clone(),
            source: Some(source),
        })?;
        if let Some(host) = &config.advertise {
            let named = format!("{host}:1").parse::<Address>().is_ok();
            if !named || ambient::find(host).is_err() {
                return Err(Error::Advertise { host: host.clone() });
            }
        }
        if let Some(path) = &config.sample_ledger {
            fs::create_dir_all(path).map_err(|source| Error::Ledger {
                path: path.clone(),
                source,
            })?;
        }
        if !config.trainer.is_file() {
            return Err(Error::NoTrainer(config.trainer));
        }
        let trainer = std::path::absolute(&config.trainer).map_err(Error::Surroundings)?;
        let (attempts_dir, lock) = own_folder(&cache.attempts_dir(), &config.name)?;
        let reports = Reports::new(attempts_dir.clone());
        let owed = reports.owed().map_err(|source| {
            Error::Cache(cache::Error::Io {
                operation: "read the reports in",
                path: attempts_dir.clone(),
                source,
            })
        })?;
        let node = Node {
            trainer,
            threads: config.threads_per_slot as usize,
            stop_grace: config.stop_grace,
            cache,
            attempts_dir,
            reports,
            slots: Semaphore::new(config.slots as usize),
            gpus: Gpus::new(config.gpus.clone()),
            advertise: config.advertise.clone(),
            sample_ledger: config.sample_ledger.clone(),
            coordinator: (host(&endpoint), endpoint.uri().port_u16().unwrap_or(80)),
        };
        Ok(Self {
            config,
            endpoint,
            node: Arc::new(node),
            owed,
            _lock: lock,
        })
    }

    /// Serves the coordinator until `shutdown`, then leaves in good order: it says so, gives running attempts
    /// [`Config::drain`] to finish, stops what is left and waits for its reports to be acknowledged, for the rest of that
    /// time and at least some seconds.
    ///
    /// Dropping the future instead kills the trainers at once.
    ///
    /// # Errors
    /// [`Error::Http`] where its address is taken; [`Error::Replaced`] and [`Error::Rejected`] by the coordinator. A lost
    /// coordinator is no error: the agent tries again for ever.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let attempts = Attempts::new(self.node.clone());
        for (seat, report) in std::mem::take(&mut self.owed) {
            info!(%seat, "ended in an earlier life of this agent: the coordinator will be told");
            attempts.ledger.report(seat, report);
        }
        let (ready, readiness) = watch::channel(false);
        let probes = match self.config.http {
            None => None,
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| Error::Http { address, source })?,
            ),
        };
        let ended = tokio::select! {
            ended = self.serve(&attempts, &ready, &shutdown) => match ended {
                Err(error) => Err(error),
                Ok(never) => match never {},
            },
            () = self.leave(&attempts, &shutdown) => Ok(()),
            ended = http::serve(probes, readiness) => ended,
        };
        attempts.abort().await;
        ended
    }

    /// One session after the other.
    async fn serve(
        &self,
        attempts: &Attempts,
        ready: &watch::Sender<bool>,
        leaving: &CancellationToken,
    ) -> Result<Infallible, Error> {
        let mut pause = Duration::ZERO;
        loop {
            let lost = match Session::open(&self.endpoint, self.hello(attempts)).await {
                Ok(session) => {
                    info!(worker = %self.config.name, coordinator = self.config.coordinator, "session is up");
                    let since = ambient::now();
                    ready.send_replace(true);
                    let lost = session.talk(attempts, leaving).await;
                    ready.send_replace(false);
                    // One that ends as soon as it is up would otherwise be opened without end.
                    if ambient::now() - since >= MAX_PAUSE {
                        pause = Duration::ZERO;
                    }
                    lost
                }
                Err(error) => error,
            };
            if let session::Error::Status(status::Error { code, message }) = &lost {
                match code {
                    Code::SessionReplaced => {
                        return Err(Error::Replaced {
                            worker: self.config.name.clone(),
                        });
                    }
                    Code::InvalidArgument => {
                        return Err(Error::Rejected {
                            reason: message.clone(),
                        });
                    }
                    _ => {}
                }
            }
            let wait = ambient::jittered(pause);
            let coordinator = &self.config.coordinator;
            warn!(
                coordinator,
                "no session: {}; trying again in {:.1} s",
                in_full(&lost),
                wait.as_secs_f64()
            );
            tokio::time::sleep(wait).await;
            pause = (2 * pause).clamp(FIRST_PAUSE, MAX_PAUSE);
        }
    }

    fn hello(&self, attempts: &Attempts) -> Hello {
        let cached = self.node.cache.inventory().unwrap_or_else(|error| {
            warn!("cannot say what is cached: {}", in_full(&error));
            Vec::new()
        });
        Hello {
            worker: self.config.name.clone(),
            offer: Offer {
                slots: self.config.slots,
                threads_per_slot: self.config.threads_per_slot,
                device: if self.config.gpus.is_empty() {
                    "cpu"
                } else {
                    "cuda"
                }
                .to_owned(),
                cached,
                seats: attempts.ledger.open_session(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                draining: attempts.ledger.draining(),
                labels: self.config.labels.clone(),
            },
        }
    }

    /// Ends when `shutdown` was asked for and there is nothing left to wait for.
    async fn leave(&self, attempts: &Attempts, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        let ledger = &attempts.ledger;
        ledger.drain();
        let drain = self.config.drain;
        let deadline = ambient::now() + drain;
        info!("draining: running attempts have {} s to finish", drain.as_secs());
        if timeout_at(deadline, ledger.idle()).await.is_err() {
            ledger.stop_all("the agent leaves");
        }
        // Every phase of an attempt listens to its stop, and a trainer is killed when its grace is over.
        ledger.idle().await;
        // What finished is worth the rest of the time: perhaps the coordinator is being restarted, too.
        let deadline = deadline.max(ambient::now() + LAST_WORDS);
        if timeout_at(deadline, ledger.settled()).await.is_err() {
            warn!("leaving although the coordinator has not acknowledged every report");
        }
    }
}

/// The coordinator's host, an IPv6 address without its brackets.
fn host(endpoint: &Endpoint) -> String {
    let host = endpoint.uri().host().unwrap_or_default();
    host.trim_matches(['[', ']']).to_owned()
}

/// The folder of this agent's attempts, emptied of what an earlier life left there but for its reports, and the lock that makes
/// it its own.
fn own_folder(parent: &Path, name: &WorkerId) -> Result<(PathBuf, File), Error> {
    let dir = parent.join(name.as_str());
    let lock_path = parent.join(format!("{name}.lock"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| {
            Error::Cache(cache::Error::Io {
                operation: "make",
                path,
                source,
            })
        }
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(failed(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::NameInUse {
                worker: name.clone(),
                lock: lock_path,
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
    }
    fs::create_dir_all(&dir).map_err(failed(&dir))?;
    clear(&dir).map_err(failed(&dir))?;
    Ok((dir, lock))
}

fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(path)?;
        } else if !is_report(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The attempts of an agent, which outlive its sessions.
#[derive(Debug)]
pub(crate) struct Attempts {
    node: Arc<Node>,
    ledger: Arc<Ledger>,
    tasks: Mutex<JoinSet<()>>,
}

impl Attempts {
    fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            ledger: Arc::default(),
            tasks: Mutex::default(),
        }
    }

    /// What they have to say.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The coordinator has the report of `seat`, or does not want it.
    pub(crate) async fn acknowledge(&self, seat: Seat) {
        self.node.reports.forget(seat).await;
        self.ledger.acknowledge(seat);
    }

    /// Starts an attempt, unless it is known already or the agent is leaving.
    pub(crate) fn start(&self, order: Order, store: Arc<ArtifactStore>) {
        let seat = order.seat;
        match self.ledger.begin(seat) {
            Begin::Started(running) => {
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                // Forget those that have ended; a panic among them was reported when its `Running` was dropped.
                while tasks.try_join_next().is_some() {}
                tasks.spawn(attempt::run(self.node.clone(), store, order, running));
            }
            Begin::Known => info!(%seat, "assigned again, although it was started before"),
            Begin::Draining => info!(%seat, "refused: the agent is leaving"),
        }
    }

    /// Ends what still runs, without a report.
    async fn abort(self) {
        let mut tasks = self.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        tasks.shutdown().await;
    }
}
