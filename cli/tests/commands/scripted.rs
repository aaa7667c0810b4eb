//! A coordinator that decides nothing: it remembers what it was asked, and answers as if that had been done.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::stream::{self, BoxStream, StreamExt as _};
use nettailor_domain::explain::{Binding, Explanation};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::artifacts_server::{Artifacts, ArtifactsServer};
use nettailor_proto::v1::jobs_server::{Jobs, JobsServer};
use nettailor_proto::v1::users_server::{Users, UsersServer};
use nettailor_proto::v1::workers_server::{Workers, WorkersServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// A coordinator that knows one job of each kind, and remembers what it was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scripted {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// A server of it, for as long as the test lives.
    pub(crate) async fn serve() -> (Self, String) {
        let scripted = Self::default();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Server::builder()
            .add_service(JobsServer::new(scripted.clone()))
            .add_service(WorkersServer::new(scripted.clone()))
            .add_service(UsersServer::new(scripted.clone()))
            .add_service(ArtifactsServer::new(scripted.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (scripted, url)
    }

    fn note<T: std::fmt::Debug>(&self, request: Request<T>) -> T {
        let request = request.into_inner();
        let mut asked = self.asked.lock().expect("no test panics in here");
        asked.push(format!("{request:?}"));
        request
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no test panics in here"))
    }
}

fn job(id: &str, state: v1::JobState) -> v1::Job {
    v1::Job {
        id: id.into(),
        task: "digits".into(),
        state: state.into(),
        reason: "as scripted".into(),
        submitted_ms: 1_000,
        user: "alice".into(),
        priority: 7,
        ..v1::Job::default()
    }
}

/// `digits-over` has ended.
fn known(id: &str) -> v1::Job {
    match id {
        "digits-over" => job(id, v1::JobState::Failed),
        _ => job(id, v1::JobState::Paused),
    }
}

fn worker(name: String, state: v1::WorkerState, reason: &str) -> v1::Worker {
    v1::Worker {
        name,
        state: state.into(),
        reason: reason.into(),
        slots: 2,
        ..v1::Worker::default()
    }
}

fn explanation(subject: String) -> v1::Explanation {
    let explanation = Explanation {
        subject,
        state: "queued".into(),
        binding: Binding::NoWorker { unavailable: 1 },
        reason: "no worker takes work".into(),
        position: None,
        eta: None,
        decided_ms: 1_000,
        action: "start a worker".into(),
        events: Vec::new(),
    };
    v1::Explanation {
        json: serde_json::to_vec(&explanation).expect("JSON"),
    }
}

#[tonic::async_trait]
impl Jobs for Scripted {
    type WatchStream = Answers<v1::JobEvent>;
    type LogsStream = Answers<v1::LogLine>;
    type EventsStream = Answers<v1::HistoryEvent>;

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        let terms = v1::SubmitRequest {
            tasks_yaml: String::new(),
            inputs: HashMap::new(),
            ..request.into_inner()
        };
        self.note(Request::new(terms));
        let jobs = vec![job("digits-new", v1::JobState::Queued)];
        Ok(Response::new(v1::SubmitResponse { jobs }))
    }
    async fn get(&self, _: Request<v1::GetJobRequest>) -> Answer<v1::Job> {
        Err(Status::unimplemented("not here"))
    }
    async fn watch(&self, _: Request<v1::WatchJobRequest>) -> Answer<Self::WatchStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn cancel(&self, _: Request<v1::CancelJobRequest>) -> Answer<v1::Job> {
        Err(Status::unimplemented("not here"))
    }
    async fn logs(&self, _: Request<v1::LogsRequest>) -> Answer<Self::LogsStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn list(&self, request: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        self.note(request);
        Ok(Response::new(v1::ListJobsResponse {
            jobs: vec![known("digits-one")],
            ..v1::ListJobsResponse::default()
        }))
    }
    async fn update(&self, request: Request<v1::UpdateJobRequest>) -> Answer<v1::Job> {
        Ok(Response::new(known(&self.note(request).id)))
    }
    async fn pause(&self, request: Request<v1::PauseJobRequest>) -> Answer<v1::Job> {
        Ok(Response::new(known(&self.note(request).id)))
    }
    async fn resume(&self, request: Request<v1::ResumeJobRequest>) -> Answer<v1::Job> {
        Ok(Response::new(known(&self.note(request).id)))
    }
    async fn retry(&self, request: Request<v1::RetryRequest>) -> Answer<v1::SubmitResponse> {
        let again = |id: String| v1::Job {
            retry_of: id,
            ..job("digits-new", v1::JobState::Queued)
        };
        let jobs = self.note(request).ids.into_iter().map(again).collect();
        Ok(Response::new(v1::SubmitResponse { jobs }))
    }
    async fn explain(&self, request: Request<v1::ExplainJobRequest>) -> Answer<v1::Explanation> {
        match self.note(request).id.as_str() {
            "digits-one" => Ok(Response::new(explanation("job digits-one".into()))),
            "digits" => Err(Error::new(Code::AmbiguousJob, "digits-one, digits-two").into()),
            id => Err(Error::new(Code::JobNotFound, format!("no job {id}")).into()),
        }
    }
    async fn events(&self, request: Request<v1::EventsRequest>) -> Answer<Self::EventsStream> {
        self.note(request);
        let event = |time_ms, stage: &str, attempt, what: &str| v1::HistoryEvent {
            time_ms,
            stage: stage.into(),
            attempt,
            what: what.into(),
            reason: String::new(),
        };
        let events = [
            event(1_000, "", 0, "submitted"),
            event(2_000, "teacher", 1, "started"),
        ];
        Ok(Response::new(stream::iter(events.map(Ok)).boxed()))
    }
}

#[tonic::async_trait]
impl Workers for Scripted {
    type SessionStream = Answers<v1::CoordinatorMessage>;

    async fn session(&self, _: Request<Streaming<v1::AgentMessage>>) -> Answer<Self::SessionStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn list(&self, _: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn cordon(&self, request: Request<v1::CordonRequest>) -> Answer<v1::Worker> {
        let v1::CordonRequest { worker: name, reason } = self.note(request);
        Ok(Response::new(worker(name, v1::WorkerState::Cordoned, &reason)))
    }
    async fn drain(&self, request: Request<v1::CordonRequest>) -> Answer<v1::Worker> {
        let v1::CordonRequest { worker: name, reason } = self.note(request);
        Ok(Response::new(worker(name, v1::WorkerState::Draining, &reason)))
    }
    async fn uncordon(&self, request: Request<v1::UncordonRequest>) -> Answer<v1::Worker> {
        let name = self.note(request).worker;
        Ok(Response::new(worker(name, v1::WorkerState::Ready, "")))
    }
    async fn explain(&self, request: Request<v1::ExplainWorkerRequest>) -> Answer<v1::Explanation> {
        match self.note(request).worker.as_str() {
            "w1" | "digits" => Ok(Response::new(explanation("worker w1".into()))),
            name => Err(Error::new(Code::WorkerNotFound, format!("no worker {name}")).into()),
        }
    }
}

#[tonic::async_trait]
impl Users for Scripted {
    async fn list(&self, _: Request<v1::ListUsersRequest>) -> Answer<v1::ListUsersResponse> {
        let users = vec![v1::User {
            name: "alice".into(),
            weight: 1,
            ..v1::User::default()
        }];
        Ok(Response::new(v1::ListUsersResponse { users }))
    }
    async fn set(&self, request: Request<v1::SetUserRequest>) -> Answer<v1::User> {
        let v1::SetUserRequest { name, limit, .. } = self.note(request);
        Ok(Response::new(v1::User {
            name,
            limit: limit.unwrap_or(0),
            ..v1::User::default()
        }))
    }
}

#[tonic::async_trait]
impl Artifacts for Scripted {
    async fn missing(&self, _: Request<v1::MissingRequest>) -> Answer<v1::MissingResponse> {
        Ok(Response::new(v1::MissingResponse::default()))
    }
    async fn upload(&self, _: Request<Streaming<v1::UploadRequest>>) -> Answer<v1::Artifact> {
        Err(Status::unimplemented("not here"))
    }
}
