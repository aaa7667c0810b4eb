//! Streams that end with their job.

use std::io;

use futures::Stream;
use nettailor_domain::ids::StageKey;
use nettailor_domain::stage::StageKind;
use nettailor_engine::Job;
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_scheduler::record::Subject;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::grpc::{Context, history, view};
use crate::handle::stopping;
use crate::logs::Tail;
use crate::watch::JobEvent;

/// Messages that wait for a slow reader before whoever makes them waits, too.
const QUEUED: usize = 64;

type Sender<T> = mpsc::Sender<Result<T, Status>>;
type Events = broadcast::Receiver<JobEvent>;

/// The job, then what happens to it until it is final; `events` is there for a live one.
pub(super) fn events(
    context: Context,
    job: Job,
    events: Option<Events>,
) -> impl Stream<Item = Result<v1::JobEvent, Status>> {
    stream(context.clone(), |send| follow_events(context, job, events, send))
}

/// The log lines of some stages of a job: what there is, and with the events of a live job what comes until it is final.
pub(super) fn lines(
    context: Context,
    job: Job,
    stages: Vec<(StageKey, StageKind)>,
    events: Option<Events>,
) -> impl Stream<Item = Result<v1::LogLine, Status>> {
    stream(context.clone(), |send| {
        follow_lines(context, job, stages, events, send)
    })
}

/// What happened to a job and its stages since it was submitted, in order of time; with the events of a live job what comes until
/// it is final.
pub(super) fn happenings(
    context: Context,
    job: Job,
    changes: Option<Events>,
) -> impl Stream<Item = Result<v1::HistoryEvent, Status>> {
    stream(context.clone(), |send| {
        follow_happenings(context, job, changes, send)
    })
}

/// What `produce` sends, and its error at the end; cut short when nobody reads it or the coordinator stops.
fn stream<T, F>(
    context: Context,
    produce: impl FnOnce(Sender<T>) -> F,
) -> impl Stream<Item = Result<T, Status>>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (send, stream) = mpsc::channel(QUEUED);
    let work = produce(send.clone());
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = work => ended,
            () = context.stop.cancelled() => Err(stopping()),
            () = send.closed() => Ok(()),
        };
        if let Err(error) = ended {
            // The reader may have left meanwhile.
            let _ = send.send(Err(error.into())).await;
        }
    });
    ReceiverStream::new(stream)
}

async fn follow_events(
    context: Context,
    job: Job,
    mut events: Option<Events>,
    send: Sender<v1::JobEvent>,
) -> Result<(), Error> {
    let id = job.view.id.clone();
    let mut next = JobEvent::Job(job.into());
    loop {
        if send.send(Ok(view::event(&next))).await.is_err() || next.is_last() {
            return Ok(());
        }
        let Some(events) = &mut events else {
            return Ok(());
        };
        next = match events.recv().await {
            Ok(event) => event,
            // What was missed is in the job as a whole.
            Err(RecvError::Lagged(_)) => JobEvent::Job(context.handle.job(id.to_string()).await?.into()),
            Err(RecvError::Closed) => return Err(stopping()),
        };
    }
}

async fn follow_happenings(
    context: Context,
    job: Job,
    mut changes: Option<Events>,
    send: Sender<v1::HistoryEvent>,
) -> Result<(), Error> {
    let id = job.view.id.to_string();
    let own = Subject::Job(job.view.sequence);
    let stages = job.view.stages.iter();
    let subjects: Vec<(Subject, String)> = std::iter::once((own.clone(), String::new()))
        .chain(stages.map(|stage| (Subject::Stage(stage.key), stage.kind.to_string())))
        .collect();
    // Each is read at a time of its own: one may be ahead of another.
    let mut told = vec![None; subjects.len()];
    let mut over = job.view.phase.is_final();
    loop {
        let mut events = Vec::new();
        let mut submitted = None;
        for ((subject, kind), told) in subjects.iter().zip(&mut told) {
            for event in history::of(&context, subject.clone()).await? {
                if *subject == own {
                    submitted = submitted.or(Some(event.at));
                }
                // A shared stage may have begun for somebody else.
                let at = (event.at, event.index);
                if told.is_none_or(|told| told < at) && submitted.is_none_or(|since| event.at >= since) {
                    *told = Some(at);
                    events.push((at, event.happening, kind.clone()));
                }
            }
        }
        events.sort_by_key(|(at, ..)| *at);
        for (_, happening, kind) in events {
            let message = history::message(happening, kind);
            if send.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        let Some(changes) = changes.as_mut().filter(|_| !over) else {
            return Ok(());
        };
        loop {
            match changes.recv().await {
                // How far a stage is makes no history.
                Ok(JobEvent::Progress { .. }) => continue,
                Ok(event) => over = event.is_last(),
                Err(RecvError::Lagged(_)) => {
                    over = context.handle.job(id.clone()).await?.view.phase.is_final();
                }
                Err(RecvError::Closed) => return Err(stopping()),
            }
            break;
        }
    }
}

async fn follow_lines(
    context: Context,
    job: Job,
    stages: Vec<(StageKey, StageKind)>,
    mut events: Option<Events>,
    send: Sender<v1::LogLine>,
) -> Result<(), Error> {
    let id = job.view.id.to_string();
    let mut written = context.logs.written();
    let mut tail = Tail::new(context.logs.folder(), stages);
    let mut over = job.view.phase.is_final();
    loop {
        // What was said before the job ended is in the files after this.
        context.logs.settle().await;
        tail = pass_on(tail, send.clone()).await?;
        let Some(events) = events.as_mut().filter(|_| !over) else {
            return Ok(());
        };
        loop {
            tokio::select! {
                stage = written.recv() => match stage {
                    Ok(stage) if !tail.covers(stage) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Err(stopping()),
                },
                event = events.recv() => {
                    over = match event {
                        Ok(event) => event.is_last(),
                        Err(RecvError::Lagged(_)) => context.handle.job(id.clone()).await?.view.phase.is_final(),
                        Err(RecvError::Closed) => return Err(stopping()),
                    };
                    if over {
                        break;
                    }
                }
            }
        }
        // Many notices, one reading.
        while matches!(written.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
    }
}

/// Sends what is new in the files.
async fn pass_on(mut tail: Tail, send: Sender<v1::LogLine>) -> Result<Tail, Error> {
    let read = move || {
        tail.read_new(|entry| send.blocking_send(Ok(view::log_line(entry))).is_ok())?;
        Ok(tail)
    };
    let read: io::Result<Tail> = tokio::task::spawn_blocking(read)
        .await
        .map_err(io::Error::other)
        .flatten();
    read.map_err(|error| Error::new(Code::Internal, format!("the logs cannot be read: {error}")))
}
