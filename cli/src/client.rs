//! The coordinator as seen from here: one method per call, domain types and views in and out.

use std::time::Duration;

use futures::future::ready;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Digest, TaskName};
use nettailor_domain::model::{BackboneRecord, ModelQuery, ModelRecord};
use nettailor_domain::stage::Artifact;
use nettailor_domain::task::TaskInputs;
use nettailor_domain::trainer::Progress;
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::v1::artifacts_client::ArtifactsClient;
use nettailor_proto::v1::jobs_client::JobsClient;
use nettailor_proto::v1::registry_client::RegistryClient;
use nettailor_proto::v1::workers_client::WorkersClient;
use nettailor_proto::{convert, status, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::error::Error;
use crate::views::{JobState, JobView, LogView, WorkerView};

/// Longest wait for a connection; on a sound network it takes milliseconds.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often, so that a dead peer is noticed while nothing is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection to a coordinator. Cheap to clone; comes back by itself after the coordinator was away.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
}

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

impl Client {
    /// Connects to the coordinator at `url`.
    pub(crate) async fn connect(url: &str) -> Result<Self, Error> {
        let address = |source| Error::Address {
            url: url.to_owned(),
            source,
        };
        // There is no TLS yet: a URL that asks for it must not seem to get it.
        if !url.starts_with("http://") {
            return Err(address(None));
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|source| address(Some(source)))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .user_agent(concat!("nettailor-cli/", env!("CARGO_PKG_VERSION")))
            .map_err(|source| address(Some(source)))?;
        let channel = endpoint.connect().await.map_err(|source| Error::Unreachable {
            url: url.to_owned(),
            source,
        })?;
        Ok(Self { channel })
    }

    fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn registry(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Submits the text of a tasks file; the new jobs in the file's order.
    pub(crate) async fn submit(
        &self,
        text: &str,
        inputs: impl IntoIterator<Item = (TaskName, TaskInputs)>,
    ) -> Result<Vec<JobView>, Error> {
        let inputs = inputs
            .into_iter()
            .map(|(task, inputs)| (task.into(), inputs.into()))
            .collect();
        let request = v1::SubmitRequest {
            tasks_yaml: text.to_owned(),
            inputs,
            ..Default::default()
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
        let stream = answer(action.clone(), self.jobs().logs(request).await)?;
        let refused = move |status: Status| Error::Refused {
            action: action.clone(),
            source: status.into(),
        };
        Ok(stream.map(move |line| line.map(LogView::from).map_err(&refused)))
    }

    /// Every worker that is known.
    pub(crate) async fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        let mut client =
            WorkersClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let response = answer("list workers", client.list(v1::ListWorkersRequest {}).await)?;
        Ok(response.workers.into_iter().map(WorkerView::from).collect())
    }

    /// The models that answer a question.
    pub(crate) async fn search(&self, query: ModelQuery) -> Result<Vec<ModelRecord>, Error> {
        const ACTION: &str = "search the registry";
        let response = answer(
            ACTION,
            self.registry().search(v1::SearchRequest::from(query)).await,
        )?;
        understood(
            ACTION,
            response.models.into_iter().map(ModelRecord::try_from).collect(),
        )
    }

    /// A model of a task: this version, or the newest.
    pub(crate) async fn model(&self, task: &TaskName, version: Option<u32>) -> Result<ModelRecord, Error> {
        let action = version.map_or_else(
            || format!("get {task}"),
            |version| format!("get {task}@{version}"),
        );
        let request = v1::GetModelRequest {
            task: task.to_string(),
            version: version.unwrap_or(0),
        };
        let model = answer(action.clone(), self.registry().get(request).await)?;
        understood(action, model.try_into())
    }

    /// Makes uploaded weights the backbone that tasks files without weights of their own use.
    pub(crate) async fn register_backbone(
        &self,
        arch: BackboneName,
        weights: Artifact,
        source: &str,
    ) -> Result<BackboneRecord, Error> {
        let request = v1::RegisterBackboneRequest {
            arch: arch.as_str().to_owned(),
            weights: Some(weights.into()),
            source: source.to_owned(),
        };
        let action = format!("register the backbone {arch}");
        let backbone = answer(action.clone(), self.registry().register_backbone(request).await)?;
        understood(action, backbone.try_into())
    }

    /// Every imported backbone.
    pub(crate) async fn backbones(&self) -> Result<Vec<BackboneRecord>, Error> {
        const ACTION: &str = "list backbones";
        let response = answer(
            ACTION,
            self.registry().list_backbones(v1::ListBackbonesRequest {}).await,
        )?;
        understood(
            ACTION,
            response
                .backbones
                .into_iter()
                .map(BackboneRecord::try_from)
                .collect(),
        )
    }

    /// Which of these blobs the artifact store lacks.
    pub(crate) async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        const ACTION: &str = "ask which files are already there";
        let request = v1::MissingRequest {
            digests: digests.iter().map(ToString::to_string).collect(),
        };
        let response = answer(ACTION, self.artifacts().missing(request).await)?;
        understood(ACTION, convert::parse_all(&response.digests, "digests"))
    }

    /// Stores one blob: `chunks` are its bytes in order, each at most [`nettailor_proto::limits::CHUNK_BYTES`].
    pub(crate) async fn upload(
        &self,
        artifact: Artifact,
        chunks: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<(), status::Error> {
        use v1::upload_request::Part;
        let message = |part| v1::UploadRequest { part: Some(part) };
        let head = futures::stream::iter([message(Part::Artifact(artifact.into()))]);
        let parts = head.chain(chunks.map(move |chunk| message(Part::Chunk(chunk))));
        self.artifacts().upload(parts).await?;
        Ok(())
    }
}

fn answer<T>(action: impl Into<String>, response: Result<Response<T>, Status>) -> Result<T, Error> {
    let refused = |status: Status| Error::Refused {
        action: action.into(),
        source: status.into(),
    };
    response.map(Response::into_inner).map_err(refused)
}

fn understood<T>(action: impl Into<String>, read: Result<T, convert::Error>) -> Result<T, Error> {
    read.map_err(|source| Error::Answer {
        action: action.into(),
        source,
    })
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
