//! The way to the driver.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{JobId, Seat, TaskName, UserName};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::stage::StageKind;
use nettailor_domain::task::{TaskInputs, TaskSpec};
use nettailor_domain::trainer::Progress;
use nettailor_engine::{Answer, Job, Refused, Request, Speaker, State};
use nettailor_proto::status::{Code, Error};
use nettailor_scheduler::event::{Event, Submission};
use nettailor_scheduler::view::JobView;
use nettailor_scheduler::{FindError, Rejected};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::ambient::JobIds;
use crate::driver::{Command, Release};
use crate::logs::Batch;
use crate::outlet::Outlet;
use crate::watch::JobEvent;

/// A task to be tailored, its inputs found in the artifact store.
#[derive(Clone)]
pub(crate) struct NewJob {
    pub(crate) arch: BackboneName,
    pub(crate) task: TaskSpec,
    pub(crate) inputs: TaskInputs,
    /// Size of the backbone's weights, or of the archive of its source's data.
    pub(crate) backbone_bytes: u64,
    /// Size of the data archive.
    pub(crate) data_bytes: u64,
    /// Who pays.
    pub(crate) user: UserName,
    /// Instead of the task's own.
    pub(crate) priority: Option<i8>,
    /// Instead of the task's own.
    pub(crate) deadline: Option<Duration>,
}

/// Sends commands to the driver. Cheap to clone. Every method waits for room in the driver's queue; dropping its future
/// drops the answer, not the command.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    ids: Arc<Mutex<JobIds>>,
}

impl Handle {
    pub(crate) fn new(commands: mpsc::Sender<Command>, ids: JobIds) -> Self {
        let ids = Arc::new(Mutex::new(ids));
        Self { commands, ids }
    }

    /// Creates a job for every task, or none; shows them without their stages. Answers once they are durable.
    pub(crate) async fn submit(&self, tasks: Vec<NewJob>) -> Result<Vec<JobView>, Error> {
        self.create(|| Request::Submit(self.under_fresh_ids(tasks.clone())))
            .await
    }

    /// Creates jobs under the fresh ids that each of these requests has.
    async fn create(&self, request: impl Fn() -> Request) -> Result<Vec<JobView>, Error> {
        loop {
            let created = self.change(request(), |answer, state| match answer? {
                Answer::Submitted(ids) => Ok(state.scheduler.summaries(&ids)),
                _ => Ok(Vec::new()),
            });
            match created.await? {
                // Of a thousand million ids per task one was drawn twice.
                Err(Refused::Rejected(Rejected::DuplicateJob(_))) => {}
                created => return created.map_err(refused),
            }
        }
    }

    fn under_fresh_ids(&self, tasks: Vec<NewJob>) -> Vec<Submission> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let submission = |new: NewJob| Submission {
            job: ids.draw(&new.task.name),
            arch: new.arch,
            task: new.task,
            inputs: new.inputs,
            backbone_bytes: new.backbone_bytes,
            data_bytes: new.data_bytes,
            user: new.user,
            priority: new.priority,
            deadline: new.deadline,
            reruns: Vec::new(),
            retry_of: None,
        };
        tasks.into_iter().map(submission).collect()
    }

    /// Does the work of ended jobs once more, each as a new job, shown without its stages. Answers once they are durable.
    pub(crate) async fn retry(
        &self,
        jobs: Vec<String>,
        failed_only: bool,
        from: Option<StageKind>,
    ) -> Result<Vec<JobView>, Error> {
        let mut named = Vec::with_capacity(jobs.len());
        for prefix in jobs {
            let JobView { id, task, .. } = self.job(prefix).await?.view;
            let id = String::from(id);
            if !named.iter().any(|(other, _)| *other == id) {
                named.push((id, task));
            }
        }
        let request = || Request::Retry {
            jobs: self.with_fresh_ids(&named),
            failed_only,
            from,
        };
        self.create(request).await
    }

    fn with_fresh_ids(&self, named: &[(String, TaskName)]) -> Vec<(String, JobId)> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let drawn = named.iter().map(|(id, task)| (id.clone(), ids.draw(task)));
        drawn.collect()
    }

    /// Does something to one job, which a request names by the start of its id. Answers once that is durable.
    pub(crate) async fn control(&self, request: Request) -> Result<Job, Error> {
        self.change(request, meant).await?.map_err(refused)
    }

    /// Changes something, and shows what `show` finds then. Answers once that is durable.
    pub(crate) async fn set<T: Send + 'static>(
        &self,
        request: Request,
        show: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let shown = self.change(request, |answer, state| answer.map(|_| show(state)));
        shown.await?.map_err(refused)
    }

    /// Asks the state something that it may refuse.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Error> {
        self.read(question).await?.map_err(refused)
    }

    /// One job, given the start of its id.
    pub(crate) async fn job(&self, prefix: String) -> Result<Job, Error> {
        let shown = self.read(move |state| found(state, &prefix));
        shown.await?.map_err(refused)
    }

    /// One job, and what happens to it from then on; nothing does where it is over.
    pub(crate) async fn watch(
        &self,
        prefix: String,
    ) -> Result<(Job, Option<broadcast::Receiver<JobEvent>>), Error> {
        let (send, answer) = oneshot::channel();
        self.send(Command::Look(Box::new(move |state, outlet| {
            let job = found(state, &prefix);
            let live = job.as_ref().ok().filter(|job| !job.view.phase.is_final());
            let events = live.map(|job| {
                let stages = job.view.stages.iter().map(|stage| stage.key);
                outlet.watchers.watch(&job.view.id, stages)
            });
            // What was told before the answer is in the job already.
            Box::new(move || {
                let events = events.map(|events| events.resubscribe());
                drop(send.send(job.map(|job| (job, events))));
            })
        })))
        .await?;
        answer.await.map_err(|_| stopping())?.map_err(refused)
    }

    /// Keeps an imported backbone, in place of an earlier one of the same name. Answers once it is durable.
    pub(crate) async fn register(&self, backbone: BackboneRecord) -> Result<BackboneRecord, Error> {
        let asked = backbone.clone();
        let kept = self.change(Request::Register(backbone), move |answer, _| match answer? {
            Answer::Registered(kept) => Ok(kept),
            _ => Ok(asked),
        });
        kept.await?.map_err(refused)
    }

    /// Asks the state.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (send, answer) = oneshot::channel();
        self.send(Command::Look(Box::new(move |state, _| {
            let value = question(state);
            // Whoever asked may have left.
            Box::new(move || drop(send.send(value)))
        })))
        .await?;
        answer.await.map_err(|_| stopping())
    }

    /// Passes on what a worker did; nothing is answered.
    pub(crate) async fn event(&self, event: Event) -> Result<(), Error> {
        self.tell(Request::Agent(event), |_, _, _| Box::new(|| ())).await
    }

    /// Passes on how far a rank is.
    pub(crate) async fn progress(&self, by: Speaker, seat: Seat, progress: Progress) -> Result<(), Error> {
        let told = progress.clone();
        let request = Request::Progress { by, seat, progress };
        self.tell(request, move |counts, state, outlet| {
            let kind = state.scheduler.stage_kind(&seat.attempt.stage);
            let Some(kind) = kind.filter(|_| counts) else {
                return Box::new(|| ());
            };
            let watched = outlet.watchers.of_stage(&seat.attempt.stage);
            let watchers = outlet.watchers.clone();
            Box::new(move || {
                for id in watched {
                    let event = JobEvent::Progress {
                        attempt: seat.attempt,
                        kind,
                        progress: told.clone(),
                    };
                    watchers.tell(&id, event);
                }
            })
        })
        .await
    }

    /// Passes on what a rank wrote to its log; to its last word, even where its attempt is over.
    pub(crate) async fn log(&self, by: Speaker, batch: Batch) -> Result<(), Error> {
        let seat = batch.seat;
        self.tell(Request::Log { by, seat }, move |counts, _, outlet| {
            let logs = outlet.logs.clone();
            Box::new(move || {
                if counts {
                    logs.append(batch);
                }
            })
        })
        .await
    }

    /// Adds the coordinator's own word to the log of a worker's rank.
    pub(crate) async fn note(&self, by: Speaker, seat: Seat, line: String) -> Result<(), Error> {
        self.send(Command::Look(Box::new(move |state, outlet| {
            let batch = Batch {
                seat,
                worker: by.worker,
                time_ms: state.scheduler.wall_ms(),
                lines: vec![line],
            };
            let logs = outlet.logs.clone();
            Box::new(move || logs.append(batch))
        })))
        .await
    }

    /// Changes the state; what came of it is shown while the state is as the request left it.
    async fn change<T: Send + 'static>(
        &self,
        request: Request,
        show: impl FnOnce(Result<Answer, Refused>, &State) -> Result<T, Refused> + Send + 'static,
    ) -> Result<Result<T, Refused>, Error> {
        let (send, answer) = oneshot::channel();
        self.send(Command::Change(
            request,
            Box::new(move |answer, state, _| {
                let shown = show(answer, state);
                // Whoever asked may have left.
                Box::new(move || drop(send.send(shown)))
            }),
        ))
        .await?;
        answer.await.map_err(|_| stopping())
    }

    /// Passes on what a worker says. `then` learns whether it counts.
    async fn tell(
        &self,
        request: Request,
        then: impl FnOnce(bool, &State, &Outlet) -> Release + Send + 'static,
    ) -> Result<(), Error> {
        self.send(Command::Change(
            request,
            Box::new(|answer, state, outlet| then(answer == Ok(Answer::Heard(true)), state, outlet)),
        ))
        .await
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| stopping())
    }
}

/// The job that a request was about.
fn meant(answer: Result<Answer, Refused>, state: &State) -> Result<Job, Refused> {
    match answer? {
        Answer::Job(id) => shown(state, &id),
        other => unreachable!("a request about a job is not answered with {other:?}"),
    }
}

fn found(state: &State, prefix: &str) -> Result<Job, Refused> {
    shown(state, state.scheduler.find_job(prefix)?)
}

fn shown(state: &State, id: &JobId) -> Result<Job, Refused> {
    let unknown = || Refused::Rejected(Rejected::UnknownJob(id.clone()));
    state.job(id).ok_or_else(unknown)
}

fn refused(error: Refused) -> Error {
    let code = match &error {
        Refused::Find(FindError::NotFound(_)) | Refused::Rejected(Rejected::UnknownJob(_)) => {
            Code::JobNotFound
        }
        Refused::Find(FindError::Ambiguous { .. }) => Code::AmbiguousJob,
        Refused::Rejected(Rejected::DuplicateJob(_)) => Code::Internal,
        Refused::Rejected(Rejected::JobOver(_)) => Code::JobOver,
        Refused::Rejected(Rejected::JobLive(_)) => Code::JobLive,
        Refused::Rejected(Rejected::NoSuchStage { .. } | Rejected::Unmeetable { .. }) => {
            Code::InvalidArgument
        }
        Refused::Rejected(Rejected::UnknownWorker(_)) => Code::WorkerNotFound,
        Refused::Rejected(Rejected::InvalidK { .. } | Rejected::NoCandidates(_)) => Code::InvalidTasksFile,
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
