//! Worker agents: their sessions, and who they are.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use nettailor_domain::ids::{Seat, WorkerId};
use nettailor_domain::session::Offer;
use nettailor_domain::stage::{Artifact, Checkpoint, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_engine::{self as engine, Speaker, State};
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::convert::{self, parse};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::workers_server::Workers;
use nettailor_scheduler::event::Event;
use nettailor_scheduler::record::Subject;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::lookups::Lookups;
use super::{Context, chain, history, view};
use crate::logs::Batch;

/// Longest wait for an agent's first message.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for its second, before which it tries the artifact store. It gives up earlier by itself.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Longest pause before a report is checked for the second time; then twice as long each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the report of a failure waits for the attempt's last checkpoint to be looked up: heartbeats wait behind it.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl Workers for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let context = self.0.clone();
        let mut incoming = request.into_inner();
        let Hello { worker, offer } = hello(&mut incoming).await?;
        let artifacts_url = context.artifacts.url().to_string();
        let welcome = FromCoordinator::Welcome {
            artifacts_url,
            heartbeat: context.heartbeat,
        };
        let session = context.sessions.open(&worker, welcome);
        let by = Speaker {
            worker,
            session: session.number,
        };
        tokio::spawn(async move {
            let reason = serve(&context, &by, offer, incoming, session.closed).await;
            info!(worker = %by.worker, reason, "worker session ended");
            context.sessions.close(&by.worker, by.session, &reason);
        });
        let outgoing = ReceiverStream::new(session.outgoing);
        Ok(Response::new(Box::pin(
            outgoing.map(|said| said.map(Into::into).map_err(Into::into)),
        )))
    }

    async fn list(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let all = |state: &State| state.scheduler.workers().collect::<Vec<_>>();
        let workers = self.0.handle.read(all).await?;
        Ok(Response::new(v1::ListWorkersResponse {
            workers: workers.into_iter().map(view::worker).collect(),
        }))
    }

    async fn cordon(&self, request: Request<v1::CordonRequest>) -> Result<Response<v1::Worker>, Status> {
        self.out_of_use(request.into_inner(), false).await
    }

    async fn drain(&self, request: Request<v1::CordonRequest>) -> Result<Response<v1::Worker>, Status> {
        self.out_of_use(request.into_inner(), true).await
    }

    async fn uncordon(&self, request: Request<v1::UncordonRequest>) -> Result<Response<v1::Worker>, Status> {
        let worker: WorkerId = parse(&request.into_inner().worker, "worker")?;
        self.admission(worker.clone(), engine::Request::Uncordon { worker })
            .await
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainWorkerRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        let worker: WorkerId = parse(&request.into_inner().worker, "worker")?;
        let name = worker.clone();
        let asked = self
            .0
            .handle
            .ask(move |state| Ok(state.scheduler.explain_worker(&name)?));
        let explanation = asked.await?;
        let subject = Some(Subject::Worker(worker));
        Ok(Response::new(
            history::explained(&self.0, explanation, subject).await?,
        ))
    }
}

impl Service {
    async fn out_of_use(
        &self,
        v1::CordonRequest { worker, reason }: v1::CordonRequest,
        drain: bool,
    ) -> Result<Response<v1::Worker>, Status> {
        let worker: WorkerId = parse(&worker, "worker")?;
        let request = engine::Request::Cordon {
            worker: worker.clone(),
            reason,
            drain,
        };
        self.admission(worker, request).await
    }

    /// Changes whether a worker is given work. One that is not connected is shown by its name alone.
    async fn admission(
        &self,
        worker: WorkerId,
        request: engine::Request,
    ) -> Result<Response<v1::Worker>, Status> {
        let name = worker.to_string();
        let shown = self.0.handle.set(request, move |state| {
            let mut workers = state.scheduler.workers();
            workers.find(|view| view.id == worker)
        });
        let shown = shown.await?.map(view::worker);
        Ok(Response::new(shown.unwrap_or_else(|| v1::Worker {
            name,
            state: v1::WorkerState::Disconnected.into(),
            ..Default::default()
        })))
    }
}

async fn hello(incoming: &mut Streaming<v1::AgentMessage>) -> Result<Hello, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, incoming.message()).await;
    let Ok(first) = first else {
        let message = format!("no Hello came within {} s", HELLO_WITHIN.as_secs());
        return Err(Error::new(Code::InvalidArgument, message).into());
    };
    match first?.map(FromAgent::try_from).transpose()? {
        Some(FromAgent::Hello(hello)) => Ok(hello),
        _ => Err(convert::Error::invalid("message", "a session begins with Hello").into()),
    }
}

/// Serves a session until it ends; says why it did.
async fn serve(
    context: &Context,
    by: &Speaker,
    offer: Offer,
    mut incoming: Streaming<v1::AgentMessage>,
    closed: CancellationToken,
) -> String {
    let talk = async {
        ready(&mut incoming).await?;
        let Speaker { worker, session } = by.clone();
        info!(%worker, slots = offer.slots, device = offer.device, version = offer.version, "worker connected");
        // The scheduler hears of the worker only now: one that cannot reach the artifact store must not be given work.
        let connected = Event::WorkerConnected {
            worker,
            session,
            offer,
        };
        context
            .handle
            .event(connected)
            .await
            .map_err(|error| error.message)?;
        Err::<Infallible, String>(listen(context, by, &mut incoming).await)
    };
    let reason = tokio::select! {
        Err(reason) = talk => reason,
        () = closed.cancelled() => "closed by the coordinator".into(),
        () = context.stop.cancelled() => "the coordinator is stopping".into(),
    };
    let Speaker { worker, session } = by.clone();
    // When the driver has stopped, so has everything else.
    let _ = context
        .handle
        .event(Event::WorkerDisconnected { worker, session })
        .await;
    reason
}

/// Waits until the agent has made sure that it can work.
async fn ready(incoming: &mut Streaming<v1::AgentMessage>) -> Result<(), String> {
    let second = tokio::time::timeout(READY_WITHIN, incoming.message()).await;
    match second.map(|second| second.map(|message| message.map(FromAgent::try_from))) {
        Ok(Ok(Some(Ok(FromAgent::Ready)))) => Ok(()),
        Ok(Ok(Some(_))) => {
            Err("after Hello comes Ready; are worker and coordinator of the same version?".into())
        }
        Ok(Ok(None) | Err(_)) => Err("the worker left before it was ready: its log says why".into()),
        Err(_) => Err(format!(
            "the worker was not ready within {} s",
            READY_WITHIN.as_secs()
        )),
    }
}

/// Passes on what an agent says; says why there is no more.
async fn listen(context: &Context, by: &Speaker, incoming: &mut Streaming<v1::AgentMessage>) -> String {
    let mut lookups = Lookups::default();
    loop {
        let said = match incoming.message().await {
            Ok(Some(message)) => understand(message),
            Ok(None) => return "the worker left".into(),
            Err(status) => return format!("the connection broke: {}", Error::from(status)),
        };
        let heard = match said {
            Ok(said) => hear(context, by, said, &mut lookups).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = heard {
            return error.message;
        }
    }
}

/// Reads a message. A report that cannot be read is one of a failure: the agent would repeat it for ever.
fn understand(message: v1::AgentMessage) -> Result<FromAgent, convert::Error> {
    use v1::agent_message::Message;

    let reported = match &message.message {
        Some(Message::Finished(report)) => report.seat.clone(),
        Some(Message::Failed(report)) => report.seat.clone(),
        _ => None,
    };
    FromAgent::try_from(message).or_else(|error| {
        let seat = reported.ok_or_else(|| error.clone())?.try_into()?;
        let message = format!(
            "the coordinator (version {}) cannot read the worker's report: {error}; are worker and coordinator of the same version?",
            env!("CARGO_PKG_VERSION")
        );
        let failure = Failure {
            class: FailureClass::Internal,
            message,
        };
        Ok(FromAgent::Failed { seat, failure })
    })
}

async fn hear(context: &Context, by: &Speaker, said: FromAgent, lookups: &mut Lookups) -> Result<(), Error> {
    let Speaker { worker, session } = by.clone();
    let event = match said {
        FromAgent::Hello(_) | FromAgent::Ready => {
            return Err(convert::Error::invalid("message", "Hello or Ready came twice").into());
        }
        FromAgent::Finished { seat, result: None } => Event::SeatFinished {
            worker,
            session,
            seat,
            result: None,
        },
        FromAgent::Finished {
            seat,
            result: Some(result),
        } => {
            if !lookups.results.end(seat) {
                let lookup = finished(context.clone(), by.clone(), seat, result);
                lookups.results.start(seat, lookup);
                return Ok(());
            }
            // Within a session an agent repeats a result only when it is told to stop.
            let message = "stopped while its result waited to be checked".to_owned();
            let class = FailureClass::Lost;
            failed(by, seat, Failure { class, message })
        }
        FromAgent::Checkpointed { seat, checkpoint } => {
            let lookup = checkpointed(context.clone(), by.clone(), seat, checkpoint);
            lookups.checkpoints.start(seat, lookup);
            return Ok(());
        }
        FromAgent::Progress { seat, progress } => {
            return context.handle.progress(by.clone(), seat, progress).await;
        }
        FromAgent::Log { seat, time_ms, lines } => {
            return context
                .handle
                .log(
                    by.clone(),
                    Batch {
                        seat,
                        worker,
                        time_ms,
                        lines,
                    },
                )
                .await;
        }
        FromAgent::Heartbeat => Event::Heartbeat { worker, session },
        FromAgent::Draining { reason } => {
            info!(%worker, reason, "worker drains");
            Event::WorkerDraining { worker, session }
        }
        FromAgent::Meeting { seat, address } => {
            info!(%worker, %seat, %address, "rank 0 waits for the others");
            Event::Meeting {
                worker,
                session,
                seat,
                address,
            }
        }
        FromAgent::Failed { seat, failure } => {
            // The checkpoint it left before counts only while it is current.
            let checkpoint = lookups.checkpoints.ended(seat);
            let _ = tokio::time::timeout(CHECKPOINT_PATIENCE, checkpoint).await;
            warn!(%worker, %seat, class = ?failure.class, "failed: {failure}");
            failed(by, seat, failure)
        }
    };
    context.handle.event(event).await
}

fn failed(by: &Speaker, seat: Seat, failure: Failure) -> Event {
    let Speaker { worker, session } = by.clone();
    Event::SeatFailed {
        worker,
        session,
        seat,
        failure,
    }
}

/// Passes on that rank 0 is done, once its result was checked. The agent says it once per session: a store that does not
/// answer is asked until it does, and the attempt's log says what is waited for.
async fn finished(context: Context, by: Speaker, seat: Seat, result: Box<StageResult>) {
    let Speaker { worker, session } = by.clone();
    let mut pause = FIRST_PAUSE;
    let wrong = loop {
        let looked_up = match result.weights {
            Some(weights) => unfounded(&context, "weights", weights).await,
            None => Ok(None),
        };
        match looked_up {
            Ok(wrong) => break wrong,
            Err(error) => {
                let line = format!("the result cannot be checked, trying again: {}", chain(&error));
                warn!(%worker, %seat, "{line}");
                let _ = context.handle.note(by.clone(), seat, line).await;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    };
    let event = match wrong {
        None => Event::SeatFinished {
            worker,
            session,
            seat,
            result: Some(result),
        },
        Some(message) => {
            warn!(%worker, %seat, message, "a report cannot be accepted");
            let class = FailureClass::Resources;
            failed(&by, seat, Failure { class, message })
        }
    };
    // When the driver has stopped, so has everything else.
    let _ = context.handle.event(event).await;
}

/// Passes on that rank 0 left a checkpoint, if the next attempt can fetch it. One that cannot be looked up now is let go, and
/// the attempt's log says so: another will follow.
async fn checkpointed(context: Context, by: Speaker, seat: Seat, checkpoint: Checkpoint) {
    let Speaker { worker, session } = by.clone();
    let wrong = match unfounded(&context, "checkpoint", checkpoint.artifact).await {
        Ok(wrong) => wrong,
        Err(error) => Some(format!("a checkpoint cannot be checked: {}", chain(&error))),
    };
    // When the driver has stopped, so has everything else.
    let _ = match wrong {
        None => {
            let event = Event::Checkpointed {
                worker,
                session,
                seat,
                checkpoint,
            };
            context.handle.event(event).await
        }
        Some(line) => {
            warn!(%worker, %seat, "{line}");
            context.handle.note(by, seat, line).await
        }
    };
}

/// What is wrong with what a rank says it left in the artifact store: it counts once it can be fetched by others.
async fn unfounded(
    context: &Context,
    what: &str,
    left: Artifact,
) -> Result<Option<String>, nettailor_artifacts::Error> {
    Ok(match context.artifacts.size(left.digest).await? {
        Some(bytes) if bytes == left.bytes => None,
        Some(bytes) => Some(format!(
            "{what} {}: {} bytes were reported, {bytes} are stored",
            left.digest, left.bytes
        )),
        None => Some(format!(
            "{what} {}: not in the artifact store {}; make sure that worker and coordinator see the same one",
            left.digest,
            context.artifacts.url()
        )),
    })
}
