//! A running coordinator and its clients.

use std::path::Path;
use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_coordinator::store::{Error as StoreError, Store};
use nettailor_coordinator::{Config, Coordinator, Error, Running};
use nettailor_domain::stage::Artifact;
use nettailor_proto::status;
use nettailor_proto::v1::artifacts_client::ArtifactsClient;
use nettailor_proto::v1::job_event::Event;
use nettailor_proto::v1::jobs_client::JobsClient;
use nettailor_proto::v1::registry_client::RegistryClient;
use nettailor_proto::v1::task_inputs::Backbone;
use nettailor_proto::v1::workers_client::WorkersClient;
use nettailor_proto::v1::{self, Job, JobEvent};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;
use url::Url;

/// Only a hang takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
    pub(crate) channel: Channel,
    pub(crate) artifacts: ArtifactStore,
}

impl Site {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(Config::local(folder.to_owned())).await.unwrap()
    }

    pub(crate) async fn start_with(config: Config) -> Result<Self, Error> {
        let inside = config.state_dir.join("artifacts");
        let artifacts = config.artifacts.clone();
        let artifacts = artifacts.unwrap_or_else(|| nettailor_artifacts::folder(&inside).unwrap());
        Ok(Self::serve(artifacts, Coordinator::start(config).await?).await)
    }

    pub(crate) async fn start_on(folder: &Path, store: impl Store + 'static) -> Self {
        let open = move || -> Result<Box<dyn Store>, StoreError> { Ok(Box::new(store)) };
        Self::serve(
            nettailor_artifacts::folder(&folder.join("artifacts")).unwrap(),
            Coordinator::start_on(Config::local(folder.to_owned()), open)
                .await
                .unwrap(),
        )
        .await
    }

    async fn serve(artifacts: Url, running: Running) -> Self {
        let url = format!("http://{}", running.address());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(running.run(shutdown.clone()));
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        Self {
            shutdown,
            running,
            channel,
            artifacts: ArtifactStore::open(&artifacts).unwrap(),
        }
    }

    /// Stops the coordinator; everything is written and released then.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.end().await.unwrap();
    }

    /// Waits until the coordinator has ended.
    pub(crate) async fn end(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("it ends")
            .expect("no panic")
    }

    pub(crate) fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone())
    }

    pub(crate) fn registry(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel.clone())
    }

    pub(crate) fn workers(&self) -> WorkersClient<Channel> {
        WorkersClient::new(self.channel.clone())
    }

    pub(crate) fn uploads(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel.clone())
    }

    /// Inputs that are in the artifact store.
    pub(crate) async fn inputs(&self) -> v1::TaskInputs {
        let backbone = self.artifacts.put_bytes("backbone").await.unwrap();
        let data = self.artifacts.put_bytes("data").await.unwrap();
        inputs(backbone, data)
    }

    /// A submission of tasks with these names, each with one candidate, whose inputs are there.
    pub(crate) async fn submission(&self, names: &[&str]) -> v1::SubmitRequest {
        let inputs = self.inputs().await;
        v1::SubmitRequest {
            tasks_yaml: tasks(names),
            inputs: names
                .iter()
                .map(|name| (name.to_string(), inputs.clone()))
                .collect(),
            ..Default::default()
        }
    }

    /// Submits one task.
    pub(crate) async fn submit(&self, name: &str) -> Job {
        let submission = self.submission(&[name]).await;
        let submitted = self.jobs().submit(submission).await.unwrap().into_inner();
        assert!(submitted.jobs[0].stages.is_empty(), "shown as in a listing");
        self.job(&submitted.jobs[0].id).await
    }

    pub(crate) async fn job(&self, id: &str) -> Job {
        self.jobs()
            .get(v1::GetJobRequest { id: id.into() })
            .await
            .unwrap()
            .into_inner()
    }

    pub(crate) async fn watch(&self, id: &str) -> Streaming<JobEvent> {
        self.jobs()
            .watch(v1::WatchJobRequest { id: id.into() })
            .await
            .unwrap()
            .into_inner()
    }
}

pub(crate) fn inputs(backbone: Artifact, data: Artifact) -> v1::TaskInputs {
    v1::TaskInputs {
        backbone: Some(Backbone::WeightsDigest(backbone.digest.to_string())),
        data: Some(images(data)),
    }
}

/// The same where the backbone is pre-trained on `source`.
pub(crate) fn from_source(source: Artifact, data: Artifact) -> v1::TaskInputs {
    v1::TaskInputs {
        backbone: Some(Backbone::Source(images(source))),
        data: Some(images(data)),
    }
}

/// A data set of two classes.
fn images(data: Artifact) -> v1::DataInput {
    v1::DataInput {
        archive_digest: data.digest.to_string(),
        classes: vec!["zero".into(), "one".into()],
    }
}

pub(crate) fn tasks(names: &[&str]) -> String {
    let tasks: String = names
        .iter()
        .map(|name| format!("  - {{name: {name}, data: {{path: data}}}}\n"))
        .collect();
    format!("version: 1\nbackbone: lite0\ndefaults: {{candidates: {{k: [2]}}}}\ntasks:\n{tasks}")
}

/// The next message of a stream; `None` at its end.
pub(crate) async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, status::Error> {
    let message = tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("a message comes");
    message.map_err(Into::into)
}

/// Follows a job to its end; every event, the job at last.
pub(crate) async fn to_the_end(stream: &mut Streaming<JobEvent>) -> (Vec<Event>, Job) {
    let mut events = Vec::new();
    while let Some(event) = next(stream).await.unwrap() {
        events.push(event.event.unwrap());
    }
    let Some(Event::Job(last)) = events.last().cloned() else {
        panic!("the job is last: {events:?}")
    };
    (events, last)
}
