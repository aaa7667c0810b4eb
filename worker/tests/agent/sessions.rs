//! What outlives a session, and what ends them all.

use nettailor_proto::convert::session::{FromAgent, FromCoordinator};
use nettailor_proto::status::Code;
use nettailor_worker::{Agent, Error};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, soon};
use crate::stage::Stage;

#[tokio::test]
async fn a_report_is_repeated_until_it_is_acknowledged() {
    let stage = Stage::with_trainer(r#"say begun; read go < "$here/go"; finish"#);
    let go = stage.pipe("go");
    let mut coordinator = Coordinator::start().await;
    let agent = Agent::new(stage.config(coordinator.url())).expect("a good configuration");
    tokio::spawn(agent.run(CancellationToken::new()));
    let order = stage.order(1).await;

    let mut session = coordinator.welcome(&stage.url()).await;
    session.assign(order.clone()).await;
    session.log("begun").await;
    drop(session);

    let mut session = coordinator.welcome(&stage.url()).await;
    assert_eq!(session.hello.offer.seats, [order.seat], "it runs on");
    tokio::fs::write(go, "\n").await.expect("the trainer reads");
    let first = session.report(order.seat).await;
    assert!(matches!(first, FromAgent::Finished { .. }), "{first:?}");
    drop(session);

    let mut session = coordinator.welcome(&stage.url()).await;
    assert_eq!(session.hello.offer.seats, [order.seat], "it is not acknowledged");
    assert_eq!(session.report(order.seat).await, first);
    // Assigned again, it does not run again: the pipe would block it.
    session.assign(order.clone()).await;
    assert_eq!(session.report(order.seat).await, first);
    session.say(FromCoordinator::Acknowledged(order.seat)).await;
    drop(session);

    let session = coordinator.session().await;
    assert!(
        session.hello.offer.seats.is_empty(),
        "{:?}",
        session.hello.offer.seats
    );
    assert_eq!(session.hello.offer.cached.len(), 3);
}

#[tokio::test]
async fn an_agent_is_ready_once_it_can_use_the_artifact_store() {
    let stage = Stage::with_trainer("finish");
    std::fs::write(stage.path("file"), "no folder").expect("written");
    let mut coordinator = Coordinator::start().await;
    let agent = Agent::new(stage.config(coordinator.url())).expect("a good configuration");
    tokio::spawn(agent.run(CancellationToken::new()));
    let mut session = coordinator
        .welcome(stage.path("file/store").to_str().expect("text"))
        .await;
    assert_eq!(session.next().await, None, "it leaves without a word");
    let mut session = coordinator.welcome(&stage.url()).await;
    assert_eq!(session.next().await, Some(FromAgent::Ready));
}

#[tokio::test]
async fn heartbeats_go_on() {
    let stage = Stage::with_trainer("finish");
    let mut coordinator = Coordinator::start().await;
    let agent = Agent::new(stage.config(coordinator.url())).expect("a good configuration");
    tokio::spawn(agent.run(CancellationToken::new()));
    let mut session = coordinator.welcome(&stage.url()).await;
    for _ in 0..3 {
        session
            .until("a heartbeat", |said| {
                matches!(said, FromAgent::Heartbeat).then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn a_replaced_agent_ends_and_one_refused_does_too() {
    let stage = Stage::with_trainer("finish");
    for (code, expected) in [
        (Code::SessionReplaced, "took this one's place"),
        (Code::InvalidArgument, "rejects"),
    ] {
        let mut coordinator = Coordinator::start().await;
        let agent = Agent::new(stage.config(coordinator.url())).expect("a good configuration");
        let running = tokio::spawn(agent.run(CancellationToken::new()));
        coordinator.welcome(&stage.url()).await.refuse(code).await;
        let error = soon("the agent's end", running)
            .await
            .expect("no panic")
            .expect_err("an error");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_second_agent_of_the_same_name_does_not_start_on_the_same_cache() {
    let stage = Stage::with_trainer("finish");
    let url = "http://127.0.0.1:1".to_owned();
    let first = Agent::new(stage.config(url.clone())).expect("a good configuration");
    assert!(matches!(
        Agent::new(stage.config(url.clone())),
        Err(Error::NameInUse { .. })
    ));
    drop(first);
    Agent::new(stage.config(url)).expect("the name is free again");
}

#[tokio::test]
async fn bad_settings_are_refused() {
    let stage = Stage::with_trainer("finish");
    let good = stage.config("http://127.0.0.1:1".to_owned());
    let url = Agent::new(nettailor_worker::Config {
        coordinator: "localhost:7400".to_owned(),
        ..good.clone()
    });
    assert!(matches!(url, Err(Error::Url { .. })), "{url:?}");
    let trainer = Agent::new(nettailor_worker::Config {
        trainer: stage.path("nothing"),
        ..good.clone()
    });
    assert!(matches!(trainer, Err(Error::NoTrainer(_))), "{trainer:?}");
    for host in ["node:1234", "::1", "", "no such host"] {
        let advertised = Agent::new(nettailor_worker::Config {
            advertise: Some(host.to_owned()),
            ..good.clone()
        });
        assert!(
            matches!(advertised, Err(Error::Advertise { .. })),
            "{host}: {advertised:?}"
        );
    }
    let file = stage.path("file");
    std::fs::write(&file, "").unwrap();
    let ledger = Agent::new(nettailor_worker::Config {
        sample_ledger: Some(file),
        ..good.clone()
    });
    assert!(matches!(ledger, Err(Error::Ledger { .. })), "{ledger:?}");
    let slots = Agent::new(nettailor_worker::Config { slots: 0, ..good });
    assert!(matches!(slots, Err(Error::NoSlots)), "{slots:?}");
}
