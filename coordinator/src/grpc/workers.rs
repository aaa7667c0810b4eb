//! Worker agents: their sessions, and who they are.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use nettailor_domain::stage::StageResult;
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_proto::convert;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::workers_server::Workers;
use nettailor_scheduler::event::Event;
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
        info!(%worker, slots = offer.slots, device = offer.device, version = offer.version, "worker connected");
        let artifacts_url = context.artifacts.url().to_string();
        let welcome = FromCoordinator::Welcome {
            artifacts_url,
            heartbeat: context.heartbeat,
        };
        let session = context.sessions.open(&worker, welcome);
        let by = Speaker {
            worker: worker.clone(),
            session: session.number,
        };
        context
            .handle
            .event(Event::WorkerConnected {
                worker,
                session: session.number,
                offer,
            })
            .await?;
        tokio::spawn(async move {
            let reason = listen(&context, &by, incoming, session.closed).await;
            info!(worker = %by.worker, reason, "worker session ended");
            context.sessions.close(&by.worker, by.session, &reason);
            let Speaker { worker, session } = by;
            // When the driver has stopped, so has everything else.
            let _ = context
                .handle
                .event(Event::WorkerDisconnected { worker, session })
                .await;
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

/// Passes on what an agent says until its session ends; says why it did.
async fn listen(
    context: &Context,
    by: &Speaker,
    mut incoming: Streaming<v1::AgentMessage>,
    closed: CancellationToken,
) -> String {
    loop {
        let message = tokio::select! {
            message = incoming.message() => message,
            () = closed.cancelled() => return "closed by the coordinator".into(),
            () = context.stop.cancelled() => return "the coordinator is stopping".into(),
        };
        let said = match message {
            Ok(Some(message)) => FromAgent::try_from(message).map_err(Error::from),
            Ok(None) => return "the worker left".into(),
            Err(status) => return format!("the connection broke: {}", Error::from(status)),
        };
        let heard = match said {
            Ok(said) => hear(context, by, said).await,
            Err(error) => Err(error),
        };
        if let Err(error) = heard {
            return error.message;
        }
    }
}

async fn hear(context: &Context, by: &Speaker, said: FromAgent) -> Result<(), Error> {
    let Speaker { worker, session } = by.clone();
    let event = match said {
        FromAgent::Hello(_) => return Err(convert::Error::invalid("message", "Hello came twice").into()),
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
            Event::AttemptFailed {
                worker,
                session,
                attempt,
                failure,
            }
        }
        FromAgent::Finished { attempt, result } => match unfounded(context, &result).await {
            Ok(None) => Event::AttemptFinished {
                worker,
                session,
                attempt,
                result: *result,
            },
            Ok(Some(message)) => {
                warn!(%worker, %attempt, message, "a report cannot be accepted");
                let failure = Failure {
                    class: FailureClass::Resources,
                    message,
                };
                Event::AttemptFailed {
                    worker,
                    session,
                    attempt,
                    failure,
                }
            }
            // Not acknowledged, so the agent will report again.
            Err(error) => {
                warn!(%worker, %attempt, error = chain(&error), "a report cannot be checked");
                Event::Heartbeat { worker, session }
            }
        },
    };
    context.handle.event(event).await
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
