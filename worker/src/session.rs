//! One stream to the coordinator, from Hello to whatever ends it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::session::KEEP_ALIVE;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::v1::workers_client::WorkersClient;
use nettailor_proto::v1::{AgentMessage, CoordinatorMessage, coordinator_message};
use nettailor_proto::{convert, status};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;
use tracing::{info, warn};

use crate::agent::Attempts;
use crate::ledger::Ledger;

/// Messages between the ledger and the stream. When the network is slow they wait in the ledger, where newer progress
/// replaces older, rather than here.
const OUTBOUND: usize = 8;
/// Longest wait for a connection and its Welcome.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Log lines and progress are sent this often at most.
const FLUSH: Duration = Duration::from_millis(200);
/// Longest wait for a connection alone: a network that was cut is tried again and again rather than waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no session (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The coordinator, or something on the way, said no or broke off.
    #[error("{0}")]
    Status(status::Error),
    /// It ended the stream properly.
    #[error("the coordinator ended the session")]
    Closed,
    /// No Welcome in time.
    #[error("no answer within {} s", OPEN_TIMEOUT.as_secs())]
    Timeout,
    /// Its first message was another.
    #[error("the coordinator began with something else than a welcome")]
    NoWelcome,
    /// A message makes no sense here.
    #[error("cannot understand the coordinator")]
    Message(#[source] convert::Error),
    /// The artifact store that it named cannot be used.
    #[error("this worker gets no work: it cannot use the artifact store {url}")]
    Store {
        /// As the coordinator gave it.
        url: String,
        /// Why not.
        source: nettailor_artifacts::Error,
    },
    /// Neither can one that does not answer.
    #[error(
        "this worker gets no work: the artifact store {url} did not answer within {} s",
        OPEN_TIMEOUT.as_secs()
    )]
    StoreSilent {
        /// As the coordinator gave it.
        url: String,
    },
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status.into())
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Self {
        Self::from(tonic::Status::from_error(Box::new(error)))
    }
}

/// How to reach a coordinator.
pub(crate) fn endpoint(url: String) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    Ok(endpoint
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

/// A stream in both directions, and the Welcome: the artifact store's URL and the time between heartbeats.
type Greeted = (
    Streaming<CoordinatorMessage>,
    mpsc::Sender<AgentMessage>,
    String,
    Duration,
);

/// A session that is up.
pub(crate) struct Session {
    inbound: Streaming<CoordinatorMessage>,
    outbound: mpsc::Sender<AgentMessage>,
    heartbeat: Duration,
    store: Arc<ArtifactStore>,
}

impl Session {
    /// Connects, says hello, waits for the welcome, and says that it is ready once the artifact store is known to work:
    /// from then on the coordinator sends assignments.
    pub(crate) async fn open(endpoint: &Endpoint, hello: Hello) -> Result<Self, Error> {
        let (inbound, outbound, artifacts_url, heartbeat) =
            timeout(OPEN_TIMEOUT, Self::greet(endpoint, hello))
                .await
                .unwrap_or(Err(Error::Timeout))?;
        let store = match timeout(OPEN_TIMEOUT, usable(&artifacts_url)).await {
            Ok(Ok(store)) => Arc::new(store),
            Ok(Err(source)) => {
                let url = artifacts_url;
                return Err(Error::Store { url, source });
            }
            Err(_) => return Err(Error::StoreSilent { url: artifacts_url }),
        };
        // Where the coordinator has broken off meanwhile, the stream's other half knows why.
        let _ = outbound.send(FromAgent::Ready.into()).await;
        Ok(Self {
            inbound,
            outbound,
            heartbeat,
            store,
        })
    }

    async fn greet(endpoint: &Endpoint, hello: Hello) -> Result<Greeted, Error> {
        let channel = endpoint.connect().await?;
        let mut client = WorkersClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        // There is room: nothing else was sent.
        outbound
            .send(FromAgent::Hello(hello).into())
            .await
            .map_err(|_| Error::Closed)?;
        let mut inbound = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let first = inbound.message().await?.ok_or(Error::Closed)?;
        let FromCoordinator::Welcome {
            artifacts_url,
            heartbeat,
        } = first.try_into().map_err(Error::Message)?
        else {
            return Err(Error::NoWelcome);
        };
        Ok((inbound, outbound, artifacts_url, heartbeat))
    }

    /// Talks until something ends the session, and says what. `leaving` is passed on as Draining.
    pub(crate) async fn talk(mut self, attempts: &Attempts, leaving: &CancellationToken) -> Error {
        let ledger = attempts.ledger();
        // Side by side, so that a stream that is full in one direction cannot stop the other.
        let ended: Result<Infallible, Error> = tokio::select! {
            ended = listen(&mut self.inbound, &self.store, attempts) => ended,
            ended = speak(&self.outbound, self.heartbeat, ledger, leaving) => match ended {
                // The stream's other half knows why.
                Err(Error::Closed) => listen(&mut self.inbound, &self.store, attempts).await,
                ended => ended,
            },
        };
        match ended {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }
}

/// The artifact store, opened and tried.
async fn usable(url: &str) -> Result<ArtifactStore, nettailor_artifacts::Error> {
    let location = nettailor_artifacts::location(url)?;
    // A network file system that is away blocks whoever looks at it.
    let store = tokio::task::spawn_blocking(move || ArtifactStore::open(&location))
        .await
        .expect("opening a store does not panic")?;
    store.probe().await?;
    Ok(store)
}

async fn listen(
    inbound: &mut Streaming<CoordinatorMessage>,
    store: &Arc<ArtifactStore>,
    attempts: &Attempts,
) -> Result<Infallible, Error> {
    loop {
        let message = inbound.message().await?.ok_or(Error::Closed)?;
        match understand(message, attempts.ledger()) {
            Ok(Some(FromCoordinator::Assign(order))) => attempts.start(*order, store.clone()),
            Ok(Some(FromCoordinator::Stop { seat, reason })) => {
                info!(%seat, "stopping: {reason}");
                attempts.ledger().stop(seat, &reason);
            }
            Ok(Some(FromCoordinator::Acknowledged(seat))) => attempts.acknowledge(seat).await,
            Ok(Some(FromCoordinator::Meet { seat, address })) => attempts.ledger().meet(seat, address),
            Ok(Some(FromCoordinator::Welcome { .. })) => warn!("the coordinator said welcome twice"),
            Ok(None) => {}
            Err(error) => return Err(Error::Message(error)),
        }
    }
}

/// Reads a message. An order that cannot be read is reported as failed: its slot must not stay taken.
fn understand(
    message: CoordinatorMessage,
    ledger: &Ledger,
) -> Result<Option<FromCoordinator>, convert::Error> {
    use nettailor_domain::trainer::{Failure, FailureClass};

    let ordered = match &message.message {
        Some(coordinator_message::Message::Assign(assign)) => assign.seat.clone(),
        _ => None,
    };
    match (message.try_into(), ordered) {
        (Ok(said), _) => Ok(Some(said)),
        (Err(error), None) => Err(error),
        (Err(error), Some(seat)) => {
            let error: convert::Error = error;
            let message = format!(
                "the agent (version {}) cannot read this assignment: {error}; are agent and coordinator of the same version?",
                env!("CARGO_PKG_VERSION")
            );
            ledger.report(
                seat.try_into()?,
                Err(Failure {
                    class: FailureClass::Internal,
                    message,
                }),
            );
            Ok(None)
        }
    }
}

async fn speak(
    outbound: &mpsc::Sender<AgentMessage>,
    heartbeat: Duration,
    ledger: &Ledger,
    leaving: &CancellationToken,
) -> Result<Infallible, Error> {
    let say = async |said: FromAgent| outbound.send(said.into()).await.map_err(|_| Error::Closed);
    let mut heartbeats = interval(heartbeat);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flushes = interval(FLUSH);
    flushes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said_draining = false;
    loop {
        tokio::select! {
            _ = heartbeats.tick() => {
                say(FromAgent::Heartbeat).await?;
                continue;
            }
            () = leaving.cancelled(), if !said_draining => {
                said_draining = true;
                say(FromAgent::Draining { reason: "the agent was asked to end".to_owned() }).await?;
            }
            _ = flushes.tick() => {}
            () = ledger.urgent() => {}
        }
        for said in ledger.take() {
            say(said).await?;
        }
    }
}
