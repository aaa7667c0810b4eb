//! Worker agents: their sessions, and who they are.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use nettailor_domain::ids::Attempt;
use nettailor_domain::session::Offer;
use nettailor_domain::stage::StageResult;
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_proto::convert;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::workers_server::Workers;
use nettailor_scheduler::event::Event;
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::{Context, chain, view};
use crate::handle::Speaker;
use crate::logs::Batch;
use crate::state::State;

/// Longest wait for an agent's first message.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for its second, before which it tries the artifact store. It gives up earlier by itself.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Longest pause before a report is checked for the second time; then twice as long each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    let mut checks = Checks::default();
    loop {
        let said = match incoming.message().await {
            Ok(Some(message)) => understand(message),
            Ok(None) => return "the worker left".into(),
            Err(status) => return format!("the connection broke: {}", Error::from(status)),
        };
        let heard = match said {
            Ok(said) => hear(context, by, said, &mut checks).await,
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
        Some(Message::Finished(report)) => report.attempt.clone(),
        Some(Message::Failed(report)) => report.attempt.clone(),
        _ => None,
    };
    FromAgent::try_from(message).or_else(|error| {
        let attempt = reported.ok_or_else(|| error.clone())?.try_into()?;
        let message = format!(
            "the coordinator (version {}) cannot read the worker's report: {error}; are worker and coordinator of the same version?",
            env!("CARGO_PKG_VERSION")
        );
        let failure = Failure {
            class: FailureClass::Internal,
            message,
        };
        Ok(FromAgent::Failed { attempt, failure })
    })
}

async fn hear(context: &Context, by: &Speaker, said: FromAgent, checks: &mut Checks) -> Result<(), Error> {
    let Speaker { worker, session } = by.clone();
    let event = match said {
        FromAgent::Hello(_) | FromAgent::Ready => {
            return Err(convert::Error::invalid("message", "Hello or Ready came twice").into());
        }
        FromAgent::Finished { attempt, result } => {
            if checks.start(context, by, attempt, result) {
                return Ok(());
            }
            // Within a session an agent repeats a result only when it is told to stop the attempt.
            let message = "stopped while its result waited to be checked".to_owned();
            let class = FailureClass::Lost;
            failed(by, attempt, Failure { class, message })
        }
        FromAgent::Progress { attempt, progress } => {
            return context.handle.progress(by.clone(), attempt, progress).await;
        }
        FromAgent::Log {
            attempt,
            time_ms,
            lines,
        } => {
            return context
                .handle
                .log(
                    by.clone(),
                    Batch {
                        attempt,
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
        FromAgent::Failed { attempt, failure } => {
            warn!(%worker, %attempt, class = ?failure.class, "attempt failed: {failure}");
            failed(by, attempt, failure)
        }
    };
    context.handle.event(event).await
}

fn failed(by: &Speaker, attempt: Attempt, failure: Failure) -> Event {
    let Speaker { worker, session } = by.clone();
    Event::AttemptFailed {
        worker,
        session,
        attempt,
        failure,
    }
}

/// Results that are being checked, one check each. They end with the session.
#[derive(Default)]
struct Checks {
    tasks: JoinSet<Attempt>,
    running: HashMap<Attempt, AbortHandle>,
}

impl Checks {
    /// Starts a check, on its own: while the artifact store is away, heartbeats and other reports go on. If one is under
    /// way for the attempt, ends that instead and returns false.
    fn start(&mut self, context: &Context, by: &Speaker, attempt: Attempt, result: Box<StageResult>) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok(attempt) = ended {
                self.running.remove(&attempt);
            }
        }
        if let Some(check) = self.running.remove(&attempt) {
            check.abort();
            return false;
        }
        let (context, by) = (context.clone(), by.clone());
        let check = self.tasks.spawn(async move {
            finished(context, by, attempt, result).await;
            attempt
        });
        self.running.insert(attempt, check);
        true
    }
}

/// Passes on that an attempt is done, once that was checked. The agent says it once per session: a store that does not
/// answer is asked until it does, and the attempt's log says what is waited for.
async fn finished(context: Context, by: Speaker, attempt: Attempt, result: Box<StageResult>) {
    let Speaker { worker, session } = by.clone();
    let mut pause = FIRST_PAUSE;
    let wrong = loop {
        match unfounded(&context, &result).await {
            Ok(wrong) => break wrong,
            Err(error) => {
                let line = format!("the result cannot be checked, trying again: {}", chain(&error));
                warn!(%worker, %attempt, "{line}");
                let _ = context.handle.note(by.clone(), attempt, line).await;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    };
    let event = match wrong {
        None => Event::AttemptFinished {
            worker,
            session,
            attempt,
            result: *result,
        },
        Some(message) => {
            warn!(%worker, %attempt, message, "a report cannot be accepted");
            let class = FailureClass::Resources;
            failed(&by, attempt, Failure { class, message })
        }
    };
    // When the driver has stopped, so has everything else.
    let _ = context.handle.event(event).await;
}

/// What is wrong with a result's weights: a result counts once they can be fetched by others.
async fn unfounded(
    context: &Context,
    result: &StageResult,
) -> Result<Option<String>, nettailor_artifacts::Error> {
    let Some(weights) = result.weights else {
        return Ok(None);
    };
    Ok(match context.artifacts.size(weights.digest).await? {
        Some(bytes) if bytes == weights.bytes => None,
        Some(bytes) => Some(format!(
            "weights {}: {} bytes were reported, {bytes} are stored",
            weights.digest, weights.bytes
        )),
        None => Some(format!(
            "weights {} are not in the artifact store {}: make sure that worker and coordinator see the same one",
            weights.digest,
            context.artifacts.url()
        )),
    })
}
