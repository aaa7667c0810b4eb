//! The way to the driver.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{JobId, Seat, WorkerId};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::task::{TaskInputs, TaskSpec};
use nettailor_domain::trainer::Progress;
use nettailor_proto::status::{Code, Error};
use nettailor_scheduler::event::{Event, SessionNumber, Submission};
use nettailor_scheduler::{FindError, Rejected};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::driver::{Command, Turn};
use crate::logs::Batch;
use crate::state::{Job, State};
use crate::store::Row;
use crate::watch::JobEvent;

/// A task to be tailored, its inputs found in the artifact store.
pub(crate) struct NewJob {
    pub(crate) arch: BackboneName,
    pub(crate) task: TaskSpec,
    pub(crate) inputs: TaskInputs,
    /// Size of the backbone's weights, or of the archive of its source's data.
    pub(crate) backbone_bytes: u64,
    /// Size of the data archive.
    pub(crate) data_bytes: u64,
}

/// Who speaks: a worker in one of its sessions.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    pub(crate) worker: WorkerId,
    pub(crate) session: SessionNumber,
}

/// Sends commands to the driver. Cheap to clone. Every method waits for room in the driver's queue; dropping its future
/// drops the answer, not the command.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    pub(crate) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Creates a job for every task, or none. Answers once they are durable.
    pub(crate) async fn submit(&self, tasks: Vec<NewJob>) -> Result<Vec<Job>, Error> {
        self.ask(|turn| submit(turn, tasks)).await?
    }

    /// Ends a job, given the start of its id. Answers once that is durable.
    pub(crate) async fn cancel(&self, prefix: String, reason: String) -> Result<Job, Error> {
        self.ask(move |turn| {
            let job = find(turn.state, &prefix)?;
            turn.apply(Event::Cancel {
                job: job.clone(),
                reason,
            })
            .map_err(rejected)?;
            shown(turn.state, &job)
        })
        .await?
    }

    /// One job, given the start of its id.
    pub(crate) async fn job(&self, prefix: String) -> Result<Job, Error> {
        self.ask(move |turn| shown(turn.state, &find(turn.state, &prefix)?))
            .await?
    }

    /// One job, and what happens to it from then on; nothing does where it is over.
    pub(crate) async fn watch(
        &self,
        prefix: String,
    ) -> Result<(Job, Option<broadcast::Receiver<JobEvent>>), Error> {
        self.ask(move |turn| {
            let job = shown(turn.state, &find(turn.state, &prefix)?)?;
            let live = !job.view.phase.is_final();
            let events = live.then(|| turn.outlet.watchers.watch(&job.view.id));
            Ok((job, events))
        })
        .await?
    }

    /// Keeps an imported backbone, in place of an earlier one of the same name. Answers once it is durable.
    pub(crate) async fn register(
        &self,
        backbone: impl FnOnce(u64) -> BackboneRecord + Send + 'static,
    ) -> Result<BackboneRecord, Error> {
        self.ask(move |turn| {
            let backbone = backbone(turn.now.wall_ms);
            turn.state.backbones.insert(backbone.arch, backbone.clone());
            turn.keep(Row::Backbone(backbone.clone()));
            backbone
        })
        .await
    }

    /// Asks the state.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.ask(|turn| question(turn.state)).await
    }

    /// Passes on what a worker did; nothing is answered.
    pub(crate) async fn event(&self, event: Event) -> Result<(), Error> {
        self.tell(|turn| {
            turn.apply(event)
                .expect("only submissions and cancellations can be refused")
        })
        .await
    }

    /// Passes on how far a rank is. All ranks of an attempt do the same: rank 0's is what is shown.
    pub(crate) async fn progress(&self, by: Speaker, seat: Seat, progress: Progress) -> Result<(), Error> {
        self.tell(move |turn| {
            heard(turn, &by, seat);
            if seat.rank > 0 || !turn.state.scheduler.is_current(&by.worker, seat) {
                return;
            }
            let attempt = seat.attempt;
            let watchers = &turn.outlet.watchers;
            let scheduler = &turn.state.scheduler;
            let watched: Vec<&JobId> = scheduler
                .stage_jobs(&attempt.stage)
                .filter(|id| watchers.has(id))
                .collect();
            if !watched.is_empty()
                && let Some(stage) = scheduler.stage_record(&attempt.stage)
            {
                let kind = stage.planned.spec.kind();
                for id in watched {
                    watchers.tell(
                        id,
                        JobEvent::Progress {
                            attempt,
                            kind,
                            progress: progress.clone(),
                        },
                    );
                }
            }
            turn.state.report(attempt, progress);
        })
        .await
    }

    /// Passes on what a rank wrote to its log; to its last word, even where its attempt is over.
    pub(crate) async fn log(&self, by: Speaker, batch: Batch) -> Result<(), Error> {
        self.tell(move |turn| {
            heard(turn, &by, batch.seat);
            if turn.state.scheduler.takes_slot(&by.worker, batch.seat) {
                turn.outlet.logs.append(batch);
            }
        })
        .await
    }

    /// Adds the coordinator's own word to the log of a worker's rank.
    pub(crate) async fn note(&self, by: Speaker, seat: Seat, line: String) -> Result<(), Error> {
        self.tell(move |turn| {
            turn.outlet.logs.append(Batch {
                seat,
                worker: by.worker,
                time_ms: turn.now.wall_ms,
                lines: vec![line],
            });
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Turn<'_>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (send, answer) = oneshot::channel();
        self.send(Box::new(move |turn| {
            let value = work(turn);
            // Whoever asked may have left.
            Box::new(move || drop(send.send(value)))
        }))
        .await?;
        answer.await.map_err(|_| stopping())
    }

    async fn tell(&self, work: impl FnOnce(&mut Turn<'_>) + Send + 'static) -> Result<(), Error> {
        self.send(Box::new(move |turn| {
            work(turn);
            Box::new(|| ())
        }))
        .await
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| stopping())
    }
}

fn submit(turn: &mut Turn<'_>, tasks: Vec<NewJob>) -> Result<Vec<Job>, Error> {
    let mut submissions: Vec<Submission> = Vec::with_capacity(tasks.len());
    for NewJob {
        arch,
        task,
        inputs,
        backbone_bytes,
        data_bytes,
    } in tasks
    {
        let job = loop {
            let id = turn.state.ids.draw(&task.name);
            let taken = submissions.iter().any(|earlier| earlier.job == id);
            if !taken && turn.state.scheduler.job_record(&id).is_none() {
                break id;
            }
        };
        submissions.push(Submission {
            job,
            arch,
            task,
            inputs,
            backbone_bytes,
            data_bytes,
        });
    }
    for submission in &submissions {
        turn.state.scheduler.validate(submission).map_err(rejected)?;
    }
    let ids: Vec<JobId> = submissions
        .iter()
        .map(|submission| submission.job.clone())
        .collect();
    for submission in submissions {
        turn.apply(Event::Submit(submission)).map_err(rejected)?;
    }
    ids.iter().map(|id| shown(turn.state, id)).collect()
}

/// Takes in that a worker speaks of a seat.
fn heard(turn: &mut Turn<'_>, by: &Speaker, seat: Seat) {
    let Speaker { worker, session } = by.clone();
    turn.apply(Event::SeatRuns {
        worker,
        session,
        seat,
    })
    .expect("only submissions and cancellations can be refused");
}

fn find(state: &State, prefix: &str) -> Result<JobId, Error> {
    state.scheduler.find_job(prefix).cloned().map_err(|error| {
        let code = match error {
            FindError::NotFound(_) => Code::JobNotFound,
            FindError::Ambiguous { .. } => Code::AmbiguousJob,
        };
        Error::new(code, error.to_string())
    })
}

fn shown(state: &State, id: &JobId) -> Result<Job, Error> {
    state
        .job(id)
        .ok_or_else(|| rejected(Rejected::UnknownJob(id.clone())))
}

fn rejected(error: Rejected) -> Error {
    let code = match error {
        Rejected::DuplicateJob(_) => Code::Internal,
        Rejected::UnknownJob(_) => Code::JobNotFound,
        Rejected::InvalidK { .. } | Rejected::NoCandidates(_) => Code::InvalidTasksFile,
    };
    Error::new(code, error.to_string())
}

/// What is answered once the driver has stopped. The command may or may not have been carried out.
pub(crate) fn stopping() -> Error {
    Error::new(
        Code::Unavailable,
        "the coordinator is stopping: try again when it is back",
    )
}
