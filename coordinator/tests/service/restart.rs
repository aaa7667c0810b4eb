//! What is promised survives; what cannot be kept is not promised.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nettailor_artifacts::Manifest;
use nettailor_coordinator::store::{self, Encoded, MemoryStore, Row, Store};
use nettailor_coordinator::{Config, Coordinator, Error};
use nettailor_domain::model::ModelRecord;
use nettailor_proto::status::Code;
use nettailor_proto::v1::{self, JobState};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::site::Site;

#[tokio::test]
async fn a_restart_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    agent.work(1).await;
    let order = agent.order().await;
    let weights = site.artifacts.put_bytes("weights").await.unwrap();
    let source = "lite0.pth".to_owned();
    let register = v1::RegisterBackboneRequest {
        arch: "lite0".into(),
        weights: Some(weights.into()),
        source,
    };
    site.registry().register_backbone(register).await.unwrap();
    site.stop().await;

    let site = Site::start(folder.path()).await;
    let restored = site.job(&job.id).await;
    assert_eq!(
        (restored.state(), restored.stages_run),
        (JobState::Running, 2),
        "{restored:?}"
    );
    assert_eq!(restored.stages[0].summary, "held-out 98.00 %");
    let backbones = site
        .registry()
        .list_backbones(v1::ListBackbonesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(backbones.backbones.len(), 1);
    // The agent has gone on meanwhile: its attempt counts.
    let mut agent = Agent::connect(&site, "w1", vec![order.seat]).await;
    agent.finish(&order).await;
    agent.work(2).await;
    let done = site.job(&job.id).await;
    assert_eq!(
        (done.state(), done.stages[1].attempt),
        (JobState::Succeeded, 1),
        "{done:?}"
    );
    site.stop().await;
}

#[tokio::test]
async fn manifests_follow_and_missing_ones_are_written_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    Agent::connect(&site, "w1", vec![]).await.work(4).await;
    let artifacts = site.artifacts.clone();
    site.stop().await;
    let model = Manifest::Model("digits".parse().unwrap(), 1);
    let written: ModelRecord = artifacts.read_manifest(&model).await.unwrap();
    assert_eq!(written.lineage.job.as_str(), job.id);

    fs::remove_file(folder.path().join("artifacts").join(model.path())).unwrap();
    Site::start(folder.path()).await.stop().await;
    assert_eq!(
        artifacts.read_manifest::<ModelRecord>(&model).await.unwrap(),
        written
    );
}

/// A store whose disk is full from some commit on.
struct Full {
    store: MemoryStore,
    commits_left: usize,
}

impl Store for Full {
    fn history(&self) -> Box<dyn store::History> {
        self.store.history()
    }

    fn load(&mut self) -> Result<Vec<Row>, store::Error> {
        self.store.load()
    }

    fn commit(&mut self, rows: &[Encoded]) -> Result<(), store::Error> {
        if !rows.is_empty() && self.commits_left == 0 {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(store::Error::Open {
                path: "state".into(),
                source,
            });
        }
        self.commits_left -= usize::from(!rows.is_empty());
        self.store.commit(rows)
    }
}

#[tokio::test]
async fn a_failed_commit_stops_the_coordinator_and_nothing_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let kept = MemoryStore::default();
    let site = Site::start_on(
        folder.path(),
        Full {
            store: kept.clone(),
            commits_left: 1,
        },
    )
    .await;
    let first = site.submit("a").await;
    let submission = site.submission(&["b"]).await;
    let error = site
        .jobs()
        .submit(submission)
        .await
        .expect_err("it cannot be kept");
    assert_eq!(
        nettailor_proto::status::Error::from(error).code,
        Code::Unavailable
    );
    let error = site.end().await.expect_err("the coordinator stops");
    assert!(matches!(error, Error::Store(_)), "{error:?}");

    let site = Site::start_on(folder.path(), kept).await;
    let jobs = site
        .jobs()
        .list(v1::ListJobsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .jobs;
    assert_eq!(jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&first.id]);
    site.stop().await;
}

#[tokio::test]
async fn a_taken_port_and_a_taken_directory_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let config = Config {
        listen,
        ..Config::local(folder.path().join("other"))
    };
    let error = Coordinator::start(config)
        .await
        .map(drop)
        .expect_err("the port is taken");
    assert!(
        matches!(&error, Error::Listen { address, .. } if *address == listen),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains(&format!("{listen}: the port is in use")),
        "{error}"
    );
    assert!(!folder.path().join("other").exists());

    let site = Site::start(folder.path()).await;
    let second = Coordinator::start(Config::local(folder.path().to_owned())).await;
    let error = second.map(drop).expect_err("the directory is taken");
    assert!(
        matches!(error, Error::Store(store::Error::Locked { .. })),
        "{error:?}"
    );
    site.stop().await;
}

#[tokio::test]
async fn probes_answer() {
    let folder = tempfile::tempdir().unwrap();
    let http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let running = Coordinator::start(Config {
        http,
        ..Config::local(folder.path().to_owned())
    })
    .await
    .unwrap();
    let address = running.http_address().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(running.run(shutdown.clone()));
    for (path, status) in [
        ("/livez", "200 OK"),
        ("/readyz", "200 OK"),
        ("/other", "404 Not Found"),
    ] {
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
