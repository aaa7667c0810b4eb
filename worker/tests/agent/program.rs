//! The agent as a program: signals, probes, and a death without warning.

use std::net::TcpListener;
use std::process::Stdio;

use nettailor_proto::convert::session::{FromAgent, FromCoordinator};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::coordinator::{Coordinator, soon};
use crate::stage::Stage;

fn start(stage: &Stage, coordinator: &Coordinator, http: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_nettailor-worker"))
        .args([
            "--coordinator",
            &coordinator.url(),
            "--name",
            "node-1",
            "--slots",
            "1",
            "--http",
            http,
        ])
        .arg("--cache")
        .arg(stage.path("cache"))
        .arg("--trainer")
        .arg(stage.path("trainer"))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the agent's program")
}

fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id().expect("it runs")).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("a signal to an own child");
}

#[tokio::test]
async fn trainers_die_with_their_agent() {
    let stage = Stage::with_trainer(r#"exec 3> "$here/life"; say begun; exec sleep infinity"#);
    let life = tokio::net::unix::pipe::OpenOptions::new().open_receiver(stage.pipe("life"));
    let mut life = life.expect("the pipe's reading end");
    let mut coordinator = Coordinator::start().await;
    let agent = start(&stage, &coordinator, "127.0.0.1:0");
    let mut session = coordinator.welcome(&stage.url()).await;
    session.assign(stage.order(1).await).await;
    session.log("begun").await;
    send(&agent, Signal::SIGKILL);
    soon("the trainer's end", life.read_to_end(&mut Vec::new()))
        .await
        .expect("the pipe's end");
}

#[tokio::test]
async fn a_report_that_was_not_acknowledged_survives_its_agent() {
    for script in ["finish", "say 'out of ideas'; exit 3"] {
        let stage = Stage::with_trainer(script);
        let mut coordinator = Coordinator::start().await;
        let mut agent = start(&stage, &coordinator, "127.0.0.1:0");
        let mut session = coordinator.welcome(&stage.url()).await;
        let order = stage.order(1).await;
        session.assign(order.clone()).await;
        let first = session.report(order.seat).await;
        send(&agent, Signal::SIGKILL);
        let killed = soon("the agent's end", agent.wait()).await.expect("it ends");
        assert!(!killed.success());

        let mut agent = start(&stage, &coordinator, "127.0.0.1:0");
        let mut session = coordinator.welcome(&stage.url()).await;
        assert_eq!(session.hello.offer.seats, [order.seat]);
        assert_eq!(session.report(order.seat).await, first);
        session.say(FromCoordinator::Acknowledged(order.seat)).await;
        // It ends when nothing is owed any more.
        send(&agent, Signal::SIGTERM);
        let status = soon("the agent's end", agent.wait()).await.expect("it ends");
        assert!(status.success(), "{status}");

        let _agent = start(&stage, &coordinator, "127.0.0.1:0");
        let session = coordinator.session().await;
        assert!(session.hello.offer.seats.is_empty(), "{:?}", session.hello.offer);
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_not_said() {
    let stage = Stage::with_trainer("finish");
    let folder = stage.path("cache/attempts/node-1");
    std::fs::create_dir_all(folder.join("left-by-an-attempt")).expect("a folder");
    std::fs::write(folder.join("torn.report"), "{").expect("written");
    let mut coordinator = Coordinator::start().await;
    let _agent = start(&stage, &coordinator, "127.0.0.1:0");
    let session = coordinator.session().await;
    assert!(session.hello.offer.seats.is_empty());
    let left = std::fs::read_dir(folder).expect("the agent's folder").count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends() {
    let stage = Stage::with_trainer(r#"say begun; read never < "$here/never""#);
    stage.pipe("never");
    let mut coordinator = Coordinator::start().await;
    let mut agent = start(&stage, &coordinator, "127.0.0.1:0");
    let mut session = coordinator.welcome(&stage.url()).await;
    session.assign(stage.order(1).await).await;
    session.log("begun").await;
    send(&agent, Signal::SIGTERM);
    session
        .until("draining", |said| {
            matches!(said, FromAgent::Draining { .. }).then_some(())
        })
        .await;
    send(&agent, Signal::SIGINT);
    let status = soon("the agent's end", agent.wait()).await.expect("it ends");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn it_is_ready_while_its_session_is_up() {
    let stage = Stage::with_trainer("finish");
    let http = TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .expect("a free port")
        .to_string();
    let mut coordinator = Coordinator::start().await;
    let _agent = start(&stage, &coordinator, &http);
    let session = coordinator.session().await;
    assert!(get(&http, "/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(get(&http, "/livez").await.starts_with("HTTP/1.1 200"));
    drop(session);
    let mut session = coordinator.welcome(&stage.url()).await;
    session
        .until("a heartbeat", |said| {
            matches!(said, FromAgent::Heartbeat).then_some(())
        })
        .await;
    assert!(get(&http, "/readyz").await.starts_with("HTTP/1.1 200"));
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the agent listens before it opens a session");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer))
        .await
        .expect("received");
    answer
}
