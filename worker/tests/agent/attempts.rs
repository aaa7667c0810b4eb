//! From an assignment to its report, whatever the trainer does.

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::StageOutcome;
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_proto::convert::session::{FromAgent, FromCoordinator};
use nettailor_worker::Agent;
use nettailor_worker::cache::BlobCache;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Session};
use crate::stage::{self, Stage};

/// An agent of `stage` at work, in a session.
async fn at_work(stage: &Stage) -> (Coordinator, Session) {
    let mut coordinator = Coordinator::start().await;
    let agent = Agent::new(stage.config(coordinator.url())).expect("a good configuration");
    tokio::spawn(agent.run(CancellationToken::new()));
    let session = coordinator.welcome(&stage.url()).await;
    (coordinator, session)
}

/// How an attempt with this trainer fails.
async fn failure_of(script: &str) -> Failure {
    let stage = Stage::with_trainer(script);
    let (_coordinator, mut session) = at_work(&stage).await;
    let order = stage.order(1).await;
    session.assign(order.clone()).await;
    failure(session.report(order.seat).await)
}

fn failure(report: FromAgent) -> Failure {
    match report {
        FromAgent::Failed { failure, .. } => failure,
        other => panic!("expected a failure, not {other:?}"),
    }
}

#[tokio::test]
async fn an_assignment_becomes_a_result() {
    let stage = Stage::with_trainer(
        r#"
say "threads $OMP_NUM_THREADS"
cat "$2" >&2
echo 'no event: a log line'
echo '{"event":"progress","phase":"training","epoch":2,"epochs":3,"step":4,"steps":5,"loss":1.5,"cross_entropy":1.0,"hint":0.0,"expected_complexity":0.0,"held_out":null,"images_per_second":10.0,"eta_seconds":null}'
read go < "$here/go"
finish"#,
    );
    let go = stage.pipe("go");
    let (_coordinator, mut session) = at_work(&stage).await;
    assert_eq!(session.hello.worker.as_str(), "node-1");
    assert_eq!(
        (session.hello.offer.slots, session.hello.offer.threads_per_slot),
        (2, 3)
    );
    assert!(session.hello.offer.seats.is_empty() && session.hello.offer.cached.is_empty());

    let order = stage.order(1).await;
    session.assign(order.clone()).await;
    let (mut log, mut epoch) = (Vec::new(), 0);
    let heard_all = |said| {
        match said {
            FromAgent::Log { seat, lines, .. } => {
                assert_eq!(seat, order.seat);
                log.extend(lines);
            }
            FromAgent::Progress { progress, .. } => epoch = progress.epoch,
            _ => {}
        }
        (epoch == 2 && log.iter().any(|line| line == "no event: a log line")).then_some(())
    };
    session.until("log and progress", heard_all).await;
    assert!(log.contains(&"threads 3".to_owned()), "{log:?}");
    let submitted = order.backbone.expect("weights");
    let backbone = format!("cache/blobs/{}", submitted.digest);
    assert!(
        log.iter().any(|line| line.contains(&backbone)),
        "the assignment names local files: {log:?}"
    );
    assert_eq!(stage.attempt_folders(), 1);

    tokio::fs::write(go, "\n").await.expect("the trainer reads");
    let FromAgent::Finished {
        result: Some(result), ..
    } = session.report(order.seat).await
    else {
        panic!("expected a result")
    };
    assert!(matches!(result.outcome, StageOutcome::Teacher { held_out } if held_out.correct == 9));
    assert_eq!(result.samples, [8, 1, 1]);
    assert!(result.seconds > 0.0);
    let weights = result.weights.expect("a teacher leaves weights");
    assert_eq!(weights.digest, Digest::of(b"weights"));
    assert!(
        stage
            .store
            .contains(weights.digest)
            .await
            .expect("the store answers")
    );
    assert_eq!(stage.attempt_folders(), 0);
    // The next stage on this node need not fetch them.
    let mut cached = BlobCache::open(&stage.path("cache"), u64::MAX)
        .and_then(|cache| cache.inventory())
        .expect("a cache");
    let mut expected = vec![submitted.digest, order.data.digest, weights.digest];
    cached.sort();
    expected.sort();
    assert_eq!(cached, expected);
}

#[tokio::test]
async fn trainers_give_way_to_their_agent() {
    let stage = Stage::with_trainer(r#"say "priority $(nice)"; finish"#);
    let (_coordinator, mut session) = at_work(&stage).await;
    session.assign(stage.order(1).await).await;
    let theirs: i32 = session.log("priority").await.parse().expect("a number");
    let ours = std::process::Command::new("nice")
        .output()
        .expect("the nice command");
    let ours: i32 = String::from_utf8_lossy(&ours.stdout)
        .trim()
        .parse()
        .expect("a number");
    assert_eq!(theirs, (ours + 5).min(19));
}

#[tokio::test]
async fn a_crash_is_reported_with_its_last_words() {
    let failure = failure_of("say 'shapes do not match'; exit 3").await;
    assert_eq!(failure.class, FailureClass::Internal);
    assert!(failure.message.contains("exit code 3"), "{failure}");
    assert!(failure.message.contains("shapes do not match"), "{failure}");
}

#[tokio::test]
async fn a_killed_trainer_is_reported_with_its_signal() {
    let failure = failure_of("kill -KILL $$").await;
    assert_eq!(failure.class, FailureClass::Internal);
    assert!(
        failure.message.contains("killed by signal 9 (out of memory?)"),
        "{failure}"
    );
}

#[tokio::test]
async fn the_trainers_own_verdict_is_passed_on() {
    let failure =
        failure_of(r#"echo '{"event":"failed","class":"input","message":"no images"}'; exit 1"#).await;
    assert_eq!(
        failure,
        Failure {
            class: FailureClass::Input,
            message: "no images".to_owned()
        }
    );
}

#[tokio::test]
async fn success_without_weights_is_a_failure() {
    let failure = failure_of(r#"finish; rm "$out/weights.safetensors""#).await;
    assert_eq!(failure.class, FailureClass::Internal);
    assert!(failure.message.contains("weights.safetensors"), "{failure}");
}

#[tokio::test]
async fn weights_wait_for_a_store_that_is_away() {
    let stage = Stage::with_trainer(r#"say begun; read go < "$here/go"; finish"#);
    let go = stage.pipe("go");
    let (_coordinator, mut session) = at_work(&stage).await;
    let (blobs, away) = (stage.path("artifacts/blobs"), stage.path("away"));
    for number in 1..=2 {
        let order = stage.order(number).await;
        session.assign(order.clone()).await;
        session.log("begun").await;
        std::fs::rename(&blobs, &away).expect("the folder moves");
        std::fs::write(&blobs, "no folder").expect("written");
        tokio::fs::write(&go, "\n").await.expect("the trainer reads");
        let why = session.log("cannot upload the weights, trying again in").await;
        assert!(why.contains("looking for blob"), "{why}");
        if number == 1 {
            // Being stopped ends the wait.
            session
                .say(FromCoordinator::Stop {
                    seat: order.seat,
                    reason: "cancelled".to_owned(),
                })
                .await;
            assert_eq!(
                failure(session.report(order.seat).await).class,
                FailureClass::Lost
            );
        }
        std::fs::remove_file(&blobs).expect("removed");
        std::fs::rename(&away, &blobs).expect("the folder is back");
        if number == 2 {
            let report = session.report(order.seat).await;
            assert!(matches!(report, FromAgent::Finished { .. }), "{report:?}");
        }
    }
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_does_not_hold_the_attempt() {
    let failure = failure_of("tail -f /dev/null & exit 4").await;
    assert!(failure.message.contains("exit code 4"), "{failure}");
}

#[tokio::test]
async fn a_missing_input_fails_the_attempt_and_names_the_blob() {
    let stage = Stage::with_trainer("finish");
    let (_coordinator, mut session) = at_work(&stage).await;
    let order = stage::order(1, Digest::of(b"never stored"), Digest::of(b"never stored"));
    session.assign(order.clone()).await;
    let failure = failure(session.report(order.seat).await);
    assert_eq!(failure.class, FailureClass::Resources);
    assert!(
        failure.message.contains(&order.data.digest.to_string()),
        "{failure}"
    );
}

#[tokio::test]
async fn a_stage_without_a_backbone_is_assigned_none() {
    let stage = Stage::with_trainer("cat \"$2\" >&2; finish");
    let (_coordinator, mut session) = at_work(&stage).await;
    let mut order = stage.order(1).await;
    order.backbone = None;
    order.spec.backbone = None;
    session.assign(order.clone()).await;
    let mut log = Vec::new();
    let heard_all = |said| {
        if let FromAgent::Log { lines, .. } = said {
            log.extend(lines);
        }
        log.iter().any(|line| line.contains("\"threads\"")).then_some(())
    };
    session.until("the assignment", heard_all).await;
    assert!(log.iter().any(|line| line == "  \"backbone\": null,"), "{log:?}");
    let FromAgent::Finished {
        result: Some(result), ..
    } = session.report(order.seat).await
    else {
        panic!("expected a result")
    };
    assert!(result.weights.is_some());
}

#[tokio::test]
async fn a_stubborn_trainer_is_stopped_and_its_slot_reported_free() {
    let stage =
        Stage::with_trainer(r#"trap '' TERM; say "pid $$"; while :; do read never < "$here/never"; done"#);
    stage.pipe("never");
    let (_coordinator, mut session) = at_work(&stage).await;
    let order = stage.order(1).await;
    session.assign(order.clone()).await;
    let pid: i32 = session.log("pid").await.parse().expect("a number");
    session
        .say(FromCoordinator::Stop {
            seat: order.seat,
            reason: "job cancelled".to_owned(),
        })
        .await;
    let failure = failure(session.report(order.seat).await);
    assert_eq!(failure.class, FailureClass::Lost);
    assert!(failure.message.contains("job cancelled"), "{failure}");
    let alive = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    assert_eq!(alive, Err(nix::errno::Errno::ESRCH));
    assert_eq!(stage.attempt_folders(), 0);
}

#[tokio::test]
async fn stopping_what_does_not_run_frees_the_slot() {
    let stage = Stage::with_trainer("finish");
    let (_coordinator, mut session) = at_work(&stage).await;
    let seat = stage::unknown_seat();
    session
        .say(FromCoordinator::Stop {
            seat,
            reason: "cancelled".to_owned(),
        })
        .await;
    assert_eq!(failure(session.report(seat).await).class, FailureClass::Lost);
}
