//! Starting, running and stopping.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nettailor_artifacts::{ArtifactStore, Incarnation};
use nettailor_engine::{Engine, History, State};
use nettailor_proto::exit::Exit;
use nettailor_scheduler::error::RestoreError;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};
use url::Url;

use crate::ambient::{Clock, JobIds};
use crate::driver::{Driver, QUEUED_COMMANDS};
use crate::grpc::{self, Context};
use crate::handle::Handle;
use crate::http::{self, Ready};
use crate::journal::{self, Beginning, Journal};
use crate::logs::Logs;
use crate::manifests::{self, Manifests};
use crate::outlet::Outlet;
use crate::recovery::{self, Opened, Rebuilt, Site};
use crate::sessions::Sessions;
use crate::store::{self, Row, Store};
use crate::watch::Watchers;

/// Calls in hand, and then manifests, are given this long when the coordinator stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// Heartbeats in the time after which a worker counts as silent: two may be late.
const HEARTBEATS: u32 = 4;

/// Settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where gRPC is served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where probes are answered, if anywhere.
    pub http: Option<SocketAddr>,
    /// Directory of the state; made if it is not there.
    pub state_dir: PathBuf,
    /// Artifact store, as coordinator and workers reach it; the folder `artifacts` in the state directory by default.
    pub artifacts: Option<Url>,
    /// How long workers are waited for, and retries.
    pub scheduler: nettailor_scheduler::Config,
}

impl Config {
    /// For workers and clients on this machine: a free port of the loopback interface, no probes.
    pub fn local(state_dir: PathBuf) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen,
            http: None,
            state_dir,
            artifacts: None,
            scheduler: nettailor_scheduler::Config::default(),
        }
    }
}

/// Why a coordinator does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be had.
    #[error("cannot listen on {address}: {}", advice(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The artifact store cannot be opened.
    #[error(transparent)]
    Artifacts(#[from] nettailor_artifacts::Error),
    /// The state cannot be read or, while running, not be kept. Nothing that was answered is lost.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is no state to start from.
    #[error(transparent)]
    Recovery(recovery::Error),
    /// The state contradicts itself.
    #[error("state directory {} contradicts itself: put back a copy, or move {} away and start again, which makes it from the journal", .path.display(), store::files())]
    Restore {
        /// Which directory.
        path: PathBuf,
        /// Where.
        source: RestoreError,
    },
    /// The logs' folder cannot be used.
    #[error("the log folder {} cannot be used", .path.display())]
    Logs {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// gRPC is not served any more.
    #[error("serving gRPC failed")]
    Serve(#[source] tonic::transport::Error),
    /// A thread panicked.
    #[error("a part of the coordinator broke; this is a defect")]
    Broken(#[source] Option<JoinError>),
}

impl Error {
    /// The exit code of a program that ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Exit::Conflict,
            Self::Store(store::Error::Locked { .. }) => Exit::Conflict,
            Self::Recovery(error) => error.exit(),
            Self::Listen { .. }
            | Self::Artifacts(_)
            | Self::Store(_)
            | Self::Restore { .. }
            | Self::Logs { .. }
            | Self::Serve(_)
            | Self::Broken(_) => Exit::Failed,
        }
    }
}

impl From<recovery::Error> for Error {
    fn from(error: recovery::Error) -> Self {
        match error {
            recovery::Error::Store(error) => Self::Store(error),
            recovery::Error::Artifacts(error) => Self::Artifacts(error),
            error => Self::Recovery(error),
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use, perhaps by another coordinator; stop that, or choose another"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose another",
        _ => "the system refused",
    }
}

/// A coordinator.
#[derive(Debug)]
pub struct Coordinator;

/// A coordinator that serves. Dropped, it stops at once; nothing that was answered is lost then either.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    http: Option<SocketAddr>,
    /// Ends streams and the server.
    serving: DropGuard,
    /// Ends the driver.
    driving: DropGuard,
    /// Ends the writers of journal and manifests.
    writing: DropGuard,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    writer: JoinHandle<()>,
    journal: Journal,
    journal_writer: JoinHandle<()>,
    driver: oneshot::Receiver<Result<(), store::Error>>,
}

impl Coordinator {
    /// Starts a coordinator on the state directory. Ports are bound first, so that a second coordinator fails before it
    /// touches anything; probes answer while the state is being restored.
    pub async fn start(config: Config) -> Result<Running, Error> {
        Self::start_with(config, |site| site.open()).await
    }

    /// Starts a coordinator on any store.
    pub async fn start_on(
        config: Config,
        open: impl FnOnce() -> Result<Box<dyn Store>, store::Error> + Send + 'static,
    ) -> Result<Running, Error> {
        Self::start_with(config, |site| site.adopt(open()?)).await
    }

    /// Makes the database of a state directory again, from a journal in the artifact store: that of the `incarnation`, or the
    /// directory's own, or the only one there is. A database that is sound is left alone.
    pub async fn rebuild(config: Config, incarnation: Option<Incarnation>) -> Result<Rebuilt, Error> {
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let artifacts = ArtifactStore::open(&artifacts_url(&config)?)?;
            let site = Site {
                path: &config.state_dir,
                artifacts: &artifacts,
                runtime: &runtime,
            };
            Ok(site.rebuild(incarnation)?)
        })
        .await?
    }

    async fn start_with(
        config: Config,
        open: impl FnOnce(&Site<'_>) -> Result<Opened, recovery::Error> + Send + 'static,
    ) -> Result<Running, Error> {
        let (listener, address) = bind(config.listen).await?;
        let (serving, driving, writing) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let guards = [&serving, &driving, &writing].map(|token| token.clone().drop_guard());
        let ready = Ready::default();
        let http = match config.http {
            Some(address) => Some(serve_http(address, ready.clone(), serving.clone()).await?),
            None => None,
        };
        let silence = config.scheduler.silence;
        let runtime = tokio::runtime::Handle::current();
        let restored = blocking(move || restore(&config, &runtime, open)).await??;
        let Restored {
            store,
            state,
            clock,
            rows,
            journalled,
            beginning,
            artifacts,
            logs,
        } = restored;

        let (commands, queue) = mpsc::channel(QUEUED_COMMANDS);
        let handle = Handle::new(commands, JobIds::from_system());
        let history: Arc<dyn History> = store.history().into();
        let (sessions, manifests) = (Sessions::default(), Manifests::default());
        let outlet = Outlet {
            sessions: sessions.clone(),
            watchers: Watchers::default(),
            manifests: manifests.clone(),
            logs: logs.clone(),
            artifacts: artifacts.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let runtime = tokio::runtime::Handle::current();
        let (journal_writer, journal) = journal::Writer::new(
            artifacts.clone(),
            beginning,
            history.clone(),
            runtime,
            driving.clone(),
        );
        let driver = drive(Driver {
            engine: Engine::new(state),
            store,
            journalled,
            journal: journal.clone(),
            outlet,
            clock,
            commands: queue,
            stop: driving,
        })?;
        let journal_writer = tokio::spawn(journal_writer.run(writing.clone()));
        let writer = tokio::spawn(manifests.run(artifacts.clone(), rows, writing));
        let heartbeat = silence / HEARTBEATS;
        let context = Context {
            handle: handle.clone(),
            artifacts,
            sessions,
            logs,
            history,
            heartbeat,
            stop: serving,
        };
        let server = tokio::spawn(grpc::serve(listener, context));
        // Nobody else fills it.
        let _ = ready.set(handle);
        info!(%address, "listening");
        let [serving, driving, writing] = guards;
        Ok(Running {
            address,
            http,
            serving,
            driving,
            writing,
            server,
            writer,
            journal,
            journal_writer,
            driver,
        })
    }
}

impl Running {
    /// Where gRPC is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes are answered.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Serves until `shutdown`, or until something fails: then everything stops. Calls in hand are answered, streams end
    /// with `unavailable`, workers keep their attempts and come back to the next coordinator.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let (mut result, driver_ended) = tokio::select! {
            () = shutdown.cancelled() => {
                info!("stopping");
                (Ok(()), false)
            }
            ended = &mut self.driver => (driver_result(ended), true),
            ended = &mut self.server => (server_result(ended), false),
        };
        drop(self.serving);
        if !self.server.is_finished() && tokio::time::timeout(FAREWELL, &mut self.server).await.is_err() {
            warn!("some calls did not end in time: they are cut off");
            self.server.abort();
        }
        drop(self.driving);
        if !driver_ended {
            result = result.and(driver_result(self.driver.await));
        }
        drop(self.writing);
        if tokio::time::timeout(FAREWELL, &mut self.journal_writer)
            .await
            .is_err()
        {
            // Else it is merging.
            if self.journal.behind() > 0 {
                warn!(
                    "the journal is not complete: until the coordinator has started again, the state directory must not be lost"
                );
            }
            self.journal_writer.abort();
        }
        if tokio::time::timeout(FAREWELL, &mut self.writer).await.is_err() {
            warn!("some manifests were not written: the next start writes them");
            self.writer.abort();
        }
        result
    }
}

/// What is there before anything is served.
struct Restored {
    store: Box<dyn Store>,
    state: State,
    clock: Clock,
    /// Those that have manifests.
    rows: Vec<Row>,
    journalled: u64,
    beginning: Beginning,
    artifacts: ArtifactStore,
    logs: Logs,
}

fn restore(
    config: &Config,
    runtime: &tokio::runtime::Handle,
    open: impl FnOnce(&Site<'_>) -> Result<Opened, recovery::Error>,
) -> Result<Restored, Error> {
    let path = &config.state_dir;
    let artifacts = ArtifactStore::open(&artifacts_url(config)?)?;
    let site = Site {
        path,
        artifacts: &artifacts,
        runtime,
    };
    let Opened {
        store,
        rows,
        incarnation,
        listed,
    } = open(&site)?;
    let journalled = State::journalled(&rows);
    let beginning = Beginning::find(&artifacts, incarnation, &listed, &rows, journalled, path);
    let beginning = runtime.block_on(beginning).map_err(recovery::Error::from)?;
    let count = rows.len();
    let mut clock = Clock::start(State::elapsed(&rows));
    let manifests = rows.iter().filter(|row| manifests::has_manifest(row));
    let manifests = manifests.cloned().collect();
    let state = State::restore(config.scheduler, rows, clock.round()).map_err(|source| Error::Restore {
        path: path.clone(),
        source,
    })?;
    let folder = path.join("logs");
    let logs = Logs::open(folder.clone()).map_err(|source| Error::Logs { path: folder, source })?;
    info!(state = %path.display(), artifacts = %artifacts.url(), rows = count, "state restored");
    Ok(Restored {
        store,
        state,
        clock,
        rows: manifests,
        journalled,
        beginning,
        artifacts,
        logs,
    })
}

fn artifacts_url(config: &Config) -> Result<Url, nettailor_artifacts::Error> {
    match &config.artifacts {
        Some(url) => Ok(url.clone()),
        None => nettailor_artifacts::folder(&config.state_dir.join("artifacts")),
    }
}

/// Runs the driver in a thread of its own, and tells how it ended once its store is closed.
fn drive(driver: Driver) -> Result<oneshot::Receiver<Result<(), store::Error>>, Error> {
    let (send, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("driver".into());
    let run = move || {
        let result = driver.run();
        // Nobody waits where the coordinator was dropped.
        let _ = send.send(result);
    };
    thread.spawn(run).map_err(|_| Error::Broken(None))?;
    Ok(ended)
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn serve_http(address: SocketAddr, ready: Ready, stop: CancellationToken) -> Result<SocketAddr, Error> {
    let (listener, address) = bind(address).await?;
    let server = axum::serve(listener, http::router(ready)).with_graceful_shutdown(stop.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            warn!(%error, "probes are not answered any more");
        }
    });
    Ok(address)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Broken(Some(error)))
}

fn driver_result(ended: Result<Result<(), store::Error>, oneshot::error::RecvError>) -> Result<(), Error> {
    // Without an answer the thread panicked.
    ended.map_err(|_| Error::Broken(None))?.map_err(Error::Store)
}

fn server_result(ended: Result<Result<(), tonic::transport::Error>, JoinError>) -> Result<(), Error> {
    ended
        .map_err(|error| Error::Broken(Some(error)))?
        .map_err(Error::Serve)
}
