//! Jobs.

use futures::future::ready;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use nettailor_domain::explain::Explanation;
use nettailor_domain::ids::{TaskName, UserName};
use nettailor_domain::stage::StageKind;
use nettailor_domain::task::TaskInputs;
use nettailor_domain::trainer::Progress;
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::v1::jobs_client::JobsClient;
use nettailor_proto::{status, v1};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::{Client, answer, explanation};
use crate::error::Error;
use crate::views::{HistoryView, JobState, JobView, LogView};

/// What a watched job tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JobEvent {
    /// The whole job after a change.
    Job(Box<JobView>),
    /// A report of a running stage.
    Progress {
        /// The stage's kind.
        stage: String,
        /// How far it is.
        progress: Progress,
    },
}

/// On whose account jobs run, and how urgent they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Who pays.
    pub(crate) user: UserName,
    /// Instead of every task's own.
    pub(crate) priority: Option<i32>,
    /// Minutes in which a job is to be over, instead of every task's own.
    pub(crate) deadline: Option<u32>,
}

impl Client {
    fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Submits the text of a tasks file on these terms; the new jobs in the file's order.
    pub(crate) async fn submit(
        &self,
        text: &str,
        inputs: impl IntoIterator<Item = (TaskName, TaskInputs)>,
        terms: &Terms,
    ) -> Result<Vec<JobView>, Error> {
        let inputs = inputs
            .into_iter()
            .map(|(task, inputs)| (task.into(), inputs.into()))
            .collect();
        let request = v1::SubmitRequest {
            tasks_yaml: text.to_owned(),
            inputs,
            user: terms.user.to_string(),
            priority: terms.priority,
            deadline_minutes: terms.deadline,
        };
        let response = answer("submit the tasks file", self.jobs().submit(request).await)?;
        Ok(response.jobs.into_iter().map(JobView::from).collect())
    }

    /// One job with its stages, by its id or a prefix of it.
    pub(crate) async fn job(&self, id: &str) -> Result<JobView, Error> {
        let request = v1::GetJobRequest { id: id.to_owned() };
        answer(format!("get job {id}"), self.jobs().get(request).await).map(JobView::from)
    }

    /// Jobs, newest first: at most `limit`, of this task and in these states if any are given.
    pub(crate) async fn list_jobs(
        &self,
        task: Option<&str>,
        states: &[JobState],
        limit: usize,
    ) -> Result<Vec<JobView>, Error> {
        let mut found = Vec::new();
        let mut token = String::new();
        while found.len() < limit {
            let request = v1::ListJobsRequest {
                task: task.unwrap_or_default().to_owned(),
                states: states
                    .iter()
                    .map(|&state| v1::JobState::from(state).into())
                    .collect(),
                page_size: u32::try_from(limit - found.len()).unwrap_or(0),
                page_token: token,
            };
            let page = answer("list jobs", self.jobs().list(request).await)?;
            found.extend(page.jobs.into_iter().map(JobView::from));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The job now, then every change until it is final. Errors are the coordinator's own, for the caller to class.
    pub(crate) async fn watch(
        &self,
        id: &str,
    ) -> Result<impl Stream<Item = Result<JobEvent, status::Error>> + Send + use<>, status::Error> {
        let stream = self
            .jobs()
            .watch(v1::WatchJobRequest { id: id.to_owned() })
            .await?
            .into_inner();
        Ok(stream
            .map_err(status::Error::from)
            .try_filter_map(|event| ready(Ok(job_event(event)))))
    }

    /// Ends a job; the job as it is then.
    pub(crate) async fn cancel(&self, id: &str, reason: &str) -> Result<JobView, Error> {
        let request = v1::CancelJobRequest {
            id: id.to_owned(),
            reason: reason.to_owned(),
        };
        answer(format!("cancel job {id}"), self.jobs().cancel(request).await).map(JobView::from)
    }

    /// Changes a job's priority, or the minutes from now in which it is to be over (0 for no limit of its own).
    pub(crate) async fn update(
        &self,
        id: &str,
        priority: Option<i32>,
        deadline: Option<u32>,
    ) -> Result<JobView, Error> {
        let request = v1::UpdateJobRequest {
            id: id.to_owned(),
            priority,
            deadline_minutes: deadline,
        };
        answer(format!("change job {id}"), self.jobs().update(request).await).map(JobView::from)
    }

    /// Pauses a job for so many minutes, or for as long as the coordinator thinks right.
    pub(crate) async fn pause(&self, id: &str, reason: &str, minutes: Option<u32>) -> Result<JobView, Error> {
        let request = v1::PauseJobRequest {
            id: id.to_owned(),
            reason: reason.to_owned(),
            minutes: minutes.unwrap_or(0),
        };
        answer(format!("pause job {id}"), self.jobs().pause(request).await).map(JobView::from)
    }

    /// Ends a pause.
    pub(crate) async fn resume(&self, id: &str) -> Result<JobView, Error> {
        let request = v1::ResumeJobRequest { id: id.to_owned() };
        answer(format!("resume job {id}"), self.jobs().resume(request).await).map(JobView::from)
    }

    /// Submits what ended jobs asked for once more; the new jobs.
    pub(crate) async fn retry(
        &self,
        ids: Vec<String>,
        failed_only: bool,
        from_stage: Option<StageKind>,
    ) -> Result<Vec<JobView>, Error> {
        let action = format!("retry {}", ids.join(", "));
        let request = v1::RetryRequest {
            ids,
            failed_only,
            from_stage: name(from_stage),
        };
        let response = answer(action, self.jobs().retry(request).await)?;
        Ok(response.jobs.into_iter().map(JobView::from).collect())
    }

    /// Why a job, or one of its stages, stands where it stands.
    pub(crate) async fn explain_job(&self, id: &str, stage: Option<StageKind>) -> Result<Explanation, Error> {
        let request = v1::ExplainJobRequest {
            id: id.to_owned(),
            stage: name(stage),
        };
        explanation(format!("explain job {id}"), self.jobs().explain(request).await)
    }

    /// What happened to a job, oldest first; with `follow`, until it is final.
    pub(crate) async fn events(
        &self,
        id: &str,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<HistoryView, Error>> + Send + use<>, Error> {
        let request = v1::EventsRequest {
            id: id.to_owned(),
            follow,
        };
        let action = format!("read the history of job {id}");
        let response = self.jobs().events(request).await;
        Ok(items(action, response)?.map(|event| event.map(HistoryView::from)))
    }

    /// Log lines of a job, oldest first; with `follow`, until it is final.
    pub(crate) async fn logs(
        &self,
        id: &str,
        stage: Option<&str>,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<LogView, Error>> + Send + use<>, Error> {
        let request = v1::LogsRequest {
            id: id.to_owned(),
            stage: stage.unwrap_or_default().to_owned(),
            follow,
        };
        let action = format!("read the log of job {id}");
        let response = self.jobs().logs(request).await;
        Ok(items(action, response)?.map(|line| line.map(LogView::from)))
    }
}

fn name(stage: Option<StageKind>) -> String {
    stage.map_or_else(String::new, |stage| stage.to_string())
}

/// The messages of a stream that was asked for.
fn items<T>(
    action: String,
    response: Result<Response<Streaming<T>>, Status>,
) -> Result<impl Stream<Item = Result<T, Error>> + Send + use<T>, Error>
where
    T: Send + 'static,
{
    let stream = answer(action.clone(), response)?;
    Ok(stream.map_err(move |status| Error::Refused {
        action: action.clone(),
        source: status.into(),
    }))
}

/// An event of a kind that this CLI is too old to know is passed over.
fn job_event(event: v1::JobEvent) -> Option<JobEvent> {
    use v1::job_event::Event;
    Some(match event.event? {
        Event::Job(job) => JobEvent::Job(Box::new(job.into())),
        Event::Progress(report) => JobEvent::Progress {
            stage: report.kind,
            progress: report.progress?.into(),
        },
    })
}
