//! Jobs: submit, get, list, watch, cancel, logs.

mod follow;
mod submit;

use std::pin::Pin;

use std::time::Duration;

use futures::Stream;
use nettailor_domain::ids::TaskName;
use nettailor_domain::stage::StageKind;
use nettailor_engine::{self as engine, State};
use nettailor_proto::convert::{self, parse};
use nettailor_proto::v1;
use nettailor_proto::v1::jobs_server::Jobs;
use nettailor_scheduler::record::{JobRecord, Subject};
use nettailor_scheduler::view::{JobPhase, JobView};
use tonic::{Request, Response, Status};

use super::{Context, history, view};

/// A pause ends after so long unless told otherwise.
const PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A deadline that nobody lives to see: a hundred years.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Most jobs of one page.
const LARGEST_PAGE: usize = 1000;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl Jobs for Service {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let tasks = submit::read(&self.0.artifacts, request.into_inner()).await?;
        let jobs = self.0.handle.submit(tasks).await?;
        Ok(Response::new(v1::SubmitResponse {
            jobs: jobs.iter().map(view::summary).collect(),
        }))
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let job = self.0.handle.job(id(request.into_inner().id)?).await?;
        Ok(Response::new(view::job(&job)))
    }

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let question = Listing::try_from(request.into_inner())?;
        let (jobs, next) = self.0.handle.read(move |state| question.answer(state)).await?;
        Ok(Response::new(v1::ListJobsResponse {
            jobs: jobs.iter().map(view::summary).collect(),
            next_page_token: next.map(|sequence| sequence.to_string()).unwrap_or_default(),
        }))
    }

    type WatchStream = Answers<v1::JobEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (job, events) = self.0.handle.watch(id(request.into_inner().id)?).await?;
        Ok(Response::new(Box::pin(follow::events(
            self.0.clone(),
            job,
            events,
        ))))
    }

    async fn cancel(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let v1::CancelJobRequest { id: job, reason } = request.into_inner();
        let job = id(job)?;
        self.control(engine::Request::Cancel { job, reason }).await
    }

    async fn update(&self, request: Request<v1::UpdateJobRequest>) -> Result<Response<v1::Job>, Status> {
        let v1::UpdateJobRequest {
            id: job,
            priority,
            deadline_minutes,
        } = request.into_inner();
        let priority = priority.map(submit::priority).transpose()?;
        let deadline = deadline_minutes.map(|minutes| match minutes {
            0 => FOR_EVER,
            minutes => submit::minutes(minutes),
        });
        let job = id(job)?;
        self.control(engine::Request::Update {
            job,
            priority,
            deadline,
        })
        .await
    }

    async fn pause(&self, request: Request<v1::PauseJobRequest>) -> Result<Response<v1::Job>, Status> {
        let v1::PauseJobRequest {
            id: job,
            reason,
            minutes,
        } = request.into_inner();
        let time = match minutes {
            0 => PAUSE,
            minutes => submit::minutes(minutes),
        };
        let job = id(job)?;
        self.control(engine::Request::Pause { job, reason, time }).await
    }

    async fn resume(&self, request: Request<v1::ResumeJobRequest>) -> Result<Response<v1::Job>, Status> {
        let job = id(request.into_inner().id)?;
        self.control(engine::Request::Resume { job }).await
    }

    async fn retry(
        &self,
        request: Request<v1::RetryRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let v1::RetryRequest {
            ids,
            failed_only,
            from_stage,
        } = request.into_inner();
        let from = stage_kind(from_stage, "from_stage")?;
        let jobs = self.0.handle.retry(ids, failed_only, from).await?;
        Ok(Response::new(v1::SubmitResponse {
            jobs: jobs.iter().map(view::summary).collect(),
        }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainJobRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        let v1::ExplainJobRequest { id: prefix, stage } = request.into_inner();
        let (prefix, kind) = (id(prefix)?, stage_kind(stage, "stage")?);
        let found = self.0.handle.ask(move |state| {
            let scheduler = &state.scheduler;
            let id = scheduler.find_job(&prefix)?;
            let (explanation, stage) = scheduler.explain_job(id, kind)?;
            let sequence = scheduler.job_record(id).map(|job| job.sequence);
            Ok((explanation, sequence, stage))
        });
        let (explanation, sequence, stage) = found.await?;
        let subject = stage.map(Subject::Stage).or(sequence.map(Subject::Job));
        Ok(Response::new(
            history::explained(&self.0, explanation, subject).await?,
        ))
    }

    type EventsStream = Answers<v1::HistoryEvent>;

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let v1::EventsRequest { id: prefix, follow } = request.into_inner();
        let prefix = id(prefix)?;
        let (job, changes) = if follow {
            self.0.handle.watch(prefix).await?
        } else {
            (self.0.handle.job(prefix).await?, None)
        };
        Ok(Response::new(Box::pin(follow::happenings(
            self.0.clone(),
            job,
            changes,
        ))))
    }

    type LogsStream = Answers<v1::LogLine>;

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let v1::LogsRequest {
            id: prefix,
            stage,
            follow,
        } = request.into_inner();
        let prefix = id(prefix)?;
        let (job, events) = if follow {
            self.0.handle.watch(prefix).await?
        } else {
            (self.0.handle.job(prefix).await?, None)
        };
        let kinds = job
            .view
            .stages
            .iter()
            .filter(|view| stage.is_empty() || view.kind.to_string() == stage);
        let stages: Vec<_> = kinds.map(|view| (view.key, view.kind)).collect();
        if stages.is_empty() {
            let all: Vec<String> = job.view.stages.iter().map(|view| view.kind.to_string()).collect();
            let reason = format!(
                "job {} has no stage `{stage}`: expected one of {}",
                job.view.id,
                all.join(", ")
            );
            return Err(convert::Error::invalid("stage", reason).into());
        }
        Ok(Response::new(Box::pin(follow::lines(
            self.0.clone(),
            job,
            stages,
            events,
        ))))
    }
}

impl Service {
    async fn control(&self, request: engine::Request) -> Result<Response<v1::Job>, Status> {
        let job = self.0.handle.control(request).await?;
        Ok(Response::new(view::job(&job)))
    }
}

/// A stage's kind, if one is given.
fn stage_kind(text: String, field: &str) -> Result<Option<StageKind>, convert::Error> {
    match text.as_str() {
        "" => Ok(None),
        text => parse(text, field).map(Some),
    }
}

/// The start of a job id, as asked for.
fn id(text: String) -> Result<String, convert::Error> {
    parse::<String>(&text, "id")
}

/// A question for jobs.
struct Listing {
    task: Option<TaskName>,
    states: Vec<v1::JobState>,
    size: usize,
    /// Only jobs submitted before the one with this sequence number.
    before: Option<u64>,
}

impl TryFrom<v1::ListJobsRequest> for Listing {
    type Error = convert::Error;
    fn try_from(request: v1::ListJobsRequest) -> Result<Self, convert::Error> {
        let optional = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            task: optional(request.task.clone())
                .map(|task| parse(&task, "task"))
                .transpose()?,
            states: request.states().collect(),
            size: match request.page_size as usize {
                0 => LARGEST_PAGE,
                size => size.min(LARGEST_PAGE),
            },
            before: optional(request.page_token)
                .map(|token| parse(&token, "page_token"))
                .transpose()?,
        })
    }
}

impl Listing {
    /// A page, and the sequence number of its last job if there are more.
    fn answer(&self, state: &State) -> (Vec<JobView>, Option<u64>) {
        let before = self.before.unwrap_or(u64::MAX);
        let jobs = state
            .scheduler
            .jobs_before(before, |job, phase| self.matches(job, phase));
        let mut jobs: Vec<JobView> = jobs.take(self.size + 1).collect();
        let more = jobs.len() > self.size;
        jobs.truncate(self.size);
        let next = jobs.last().filter(|_| more).map(|job| job.sequence);
        (jobs, next)
    }

    fn matches(&self, job: &JobRecord, phase: JobPhase) -> bool {
        self.task.as_ref().is_none_or(|task| job.task.name == *task)
            && (self.states.is_empty() || self.states.contains(&view::phase(phase)))
    }
}
