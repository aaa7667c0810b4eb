//! Who goes first, and why something waits: what is asked of a coordinator, and what is made of its answers.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::bench::Bench;
use crate::scripted::Scripted;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_submitted_on_terms() {
    let bench = Bench::new();
    let (scripted, url) = Scripted::serve().await;
    tokio::task::block_in_place(|| {
        let submit = |words: &[&str]| {
            let submitted = bench.cli(&[&["--coordinator", &url, "submit", "tasks.yaml"], words].concat());
            assert_eq!(submitted.code, Some(0), "{submitted:?}");
        };
        submit(&["--user", "alice", "--priority", "-5", "--deadline", "2h"]);
        submit(&["--user", ""]);
        let request = |terms: &str| format!("SubmitRequest {{ tasks_yaml: \"\", inputs: {{}}, {terms} }}");
        assert_eq!(
            scripted.asked(),
            [
                request("user: \"alice\", priority: Some(-5), deadline_minutes: Some(120)"),
                request("user: \"default\", priority: None, deadline_minutes: None"),
            ]
        );
    });
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
async fn a_port_without_grpc_is_told_from_a_coordinator_of_another_version() {
    let bench = Bench::new();
    let (_, url) = Scripted::serve().await;
    tokio::task::block_in_place(|| {
        bench
            .cli(&["--coordinator", &url, "jobs", "get", "digits-one"])
            .refused(
                6,
                &["cannot get job digits-one", "not here", "of the same version"],
            );
    });
    // What an HTTP/1 server does with the beginning of HTTP/2: it hangs up, or says that it does not understand.
    for words in ["", "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"] {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut heard = [0; 16];
                // Whoever asks may hang up first.
                let _ = stream.read(&mut heard).await;
                let _ = stream.write_all(words.as_bytes()).await;
            }
        });
        tokio::task::block_in_place(|| {
            bench
                .cli(&["--coordinator", &url, "jobs", "list"])
                .refused(6, &[&url, "does not speak gRPC", "7400"]);
        });
    }
}
