//! Who goes first, and why something waits: what is asked of a coordinator, and what is made of its answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::stream::{self, BoxStream, StreamExt as _};
use nettailor_domain::explain::{Binding, Explanation};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::jobs_server::{Jobs, JobsServer};
use nettailor_proto::v1::users_server::{Users, UsersServer};
use nettailor_proto::v1::workers_server::{Workers, WorkersServer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::bench::Bench;

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// A coordinator that knows one job of each kind, and remembers what it was asked.
#[derive(Debug, Clone, Default)]
struct Scripted {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// A server of it, for as long as the test lives.
    async fn serve() -> (Self, String) {
        let scripted = Self::default();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Server::builder()
            .add_service(JobsServer::new(scripted.clone()))
            .add_service(WorkersServer::new(scripted.clone()))
            .add_service(UsersServer::new(scripted.clone()))
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
    fn asked(&self) -> Vec<String> {
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

    async fn submit(&self, _: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        Err(Status::unimplemented("not here"))
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

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_changed_paused_and_retried() {
    let bench = Bench::new();
    let (scripted, url) = Scripted::serve().await;
    let cli = |words: &[&str]| bench.cli(&[&["--coordinator", &url], words].concat());
    let json = |words: &[&str]| bench.json(&[&["--coordinator", &url], words].concat());
    tokio::task::block_in_place(|| {
        let job = json(&[
            "jobs",
            "set",
            "digits-one",
            "--priority",
            "-5",
            "--deadline",
            "90s",
        ]);
        assert_eq!(
            (&job["user"], &job["priority"], &job["state"]),
            (&"alice".into(), &7.into(), &"paused".into())
        );
        json(&["jobs", "set", "digits-one", "--deadline", "none"]);
        json(&["jobs", "pause", "digits-one", "--for", "2h", "--reason", "later"]);
        json(&["jobs", "pause", "digits-one"]);
        json(&["jobs", "resume", "digits-one"]);
        let new = json(&[
            "jobs",
            "retry",
            "digits-a",
            "digits-b",
            "--from-stage",
            "candidate(6)",
        ]);
        assert_eq!(
            (&new[0]["id"], &new[1]["retry_of"]),
            (&"digits-new".into(), &"digits-b".into())
        );
        let listed = cli(&["jobs", "list", "--state", "paused"]);
        assert!(
            listed.stdout.contains("digits-one  digits  alice  paused"),
            "{listed:?}"
        );
        assert_eq!(
            scripted.asked(),
            [
                "UpdateJobRequest { id: \"digits-one\", priority: Some(-5), deadline_minutes: Some(2) }",
                "UpdateJobRequest { id: \"digits-one\", priority: None, deadline_minutes: Some(0) }",
                "PauseJobRequest { id: \"digits-one\", reason: \"later\", minutes: 120 }",
                "PauseJobRequest { id: \"digits-one\", reason: \"paused from the command line\", minutes: 0 }",
                "ResumeJobRequest { id: \"digits-one\" }",
                "RetryRequest { ids: [\"digits-a\", \"digits-b\"], failed_only: false, from_stage: \"candidate(6)\" }",
                "ListJobsRequest { task: \"\", states: [Paused], page_size: 50, page_token: \"\" }",
            ]
        );
        for late in [
            &["pause", "digits-over"][..],
            &["resume", "digits-over"],
            &["set", "digits-over", "--priority", "1"],
        ] {
            cli(&[&["jobs"], late].concat()).refused(8, &["digits-over", "already failed"]);
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_for_people_and_for_programs() {
    let bench = Bench::new();
    let (scripted, url) = Scripted::serve().await;
    let cli = |words: &[&str]| bench.cli(&[&["--coordinator", &url], words].concat());
    tokio::task::block_in_place(|| {
        let answer = cli(&["jobs", "explain", "digits-one", "--stage", "student"]);
        let text = "job digits-one is queued.\nNo worker takes work.\n\
                    Decided at 1970-01-01 00:00:01Z. To get on: start a worker.\n";
        assert_eq!(answer.stdout, text, "{answer:?}");
        assert_eq!(
            scripted.asked(),
            ["ExplainJobRequest { id: \"digits-one\", stage: \"student\" }"]
        );
        let answer = bench.json(&["--coordinator", &url, "workers", "explain", "w1"]);
        assert_eq!(
            (&answer["subject"], &answer["binding"]["by"]),
            (&"worker w1".into(), &"no_worker".into()),
            "{answer}"
        );

        // A job first, then a worker, and where there is neither it is said.
        assert_eq!(cli(&["explain", "digits-one"]).stdout, text);
        let of_a_worker = text.replace("job digits-one", "worker w1");
        assert_eq!(cli(&["explain", "w1"]).stdout, of_a_worker);
        assert_eq!(
            cli(&["explain", "digits"]).stdout,
            of_a_worker,
            "a whole name is more than the beginning of two"
        );
        cli(&["explain", "w2"]).refused(3, &["`w2` is neither a job nor a worker", "workers list"]);
        cli(&["workers", "explain", "w2"]).refused(3, &["no worker w2", "workers list"]);

        let events = cli(&["jobs", "events", "digits-one"]);
        assert_eq!(
            events.stdout,
            "1970-01-01 00:00:01Z  job              submitted\n\
             1970-01-01 00:00:02Z  teacher#1        started\n"
        );
        let events = cli(&["jobs", "events", "digits-one", "-f", "-o", "json"]);
        let lines = events
            .stdout
            .lines()
            .map(serde_json::from_str::<serde_json::Value>);
        let events: Vec<_> = lines.map(|line| line.expect("JSON")["what"].clone()).collect();
        assert_eq!(events, ["submitted", "started"]);
        let asked = scripted.asked();
        let last = "EventsRequest { id: \"digits-one\", follow: true }";
        assert_eq!(asked.last().map(String::as_str), Some(last));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_users_are_set() {
    let bench = Bench::new();
    let (scripted, url) = Scripted::serve().await;
    let json = |words: &[&str]| bench.json(&[&["--coordinator", &url], words].concat());
    tokio::task::block_in_place(|| {
        let states = [
            json(&["workers", "cordon", "w1", "--reason", "its disk"]),
            json(&["workers", "drain", "w1"]),
            json(&["workers", "uncordon", "w1"]),
        ]
        .map(|worker| worker["state"].clone());
        assert_eq!(states, ["cordoned", "draining", "ready"]);
        assert_eq!(json(&["users", "list"])[0]["name"], "alice");
        let user = json(&["users", "set", "alice", "--limit", "4", "--weight", "2"]);
        assert_eq!(user["limit"], 4);
        let user = json(&["users", "set", "alice", "--limit", "none", "--guarantee", "0"]);
        assert_eq!(user["limit"], serde_json::Value::Null);
        assert_eq!(
            scripted.asked(),
            [
                "CordonRequest { worker: \"w1\", reason: \"its disk\" }",
                "CordonRequest { worker: \"w1\", reason: \"drained from the command line\" }",
                "UncordonRequest { worker: \"w1\" }",
                "SetUserRequest { name: \"alice\", weight: Some(2), limit: Some(4), guarantee: None }",
                "SetUserRequest { name: \"alice\", weight: None, limit: Some(0), guarantee: Some(0) }",
            ]
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_grpc_is_told_from_a_coordinator_in_trouble() {
    // What an HTTP/1 server does with the beginning of HTTP/2: it hangs up, or says that it does not understand.
    for words in ["", "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"] {
        let bench = Bench::new();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut heard = [0; 16];
                // Whoever asks may hang up first.
                let _ = stream.read(&mut heard).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, words.as_bytes()).await;
            }
        });
        tokio::task::block_in_place(|| {
            bench
                .cli(&["--coordinator", &url, "jobs", "list"])
                .refused(6, &[&url, "does not speak gRPC", "7400"]);
        });
    }
}
