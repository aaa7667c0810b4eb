//! Against a coordinator that lives in the test.

use std::net::SocketAddr;
use std::path::Path;

use nettailor_coordinator::{Config, Coordinator};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

struct Serving {
    address: SocketAddr,
    /// Of the probes.
    http: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Serving {
    async fn start(state: &Path, listen: Option<SocketAddr>) -> Self {
        let usual = Config::local(state.to_owned());
        let config = Config {
            listen: listen.unwrap_or(usual.listen),
            http: Some(usual.listen),
            ..usual
        };
        let running = Coordinator::start(config).await.expect("it starts");
        let (address, stop) = (running.address(), CancellationToken::new());
        let http = running.http_address().expect("asked for");
        let stopped = stop.clone();
        let ended = tokio::spawn(async move { running.run(stopped).await.expect("it ends in good order") });
        Self {
            address,
            http,
            stop,
            ended,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.expect("it does not panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_submitted_listed_found_by_prefix_and_cancelled() {
    let bench = Bench::new();
    let serving = Serving::start(&bench.path("state"), None).await;
    let (at, url) = ("--coordinator", serving.url());
    tokio::task::block_in_place(|| {
        let submitted = bench.cli(&[at, &url, "submit", "tasks.yaml", "-o", "name"]);
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
        let id = submitted.stdout.trim();
        assert!(submitted.stderr.contains("uploading"), "{submitted:?}");
        let again = bench.cli(&[at, &url, "submit", "tasks.yaml", "-o", "name"]);
        assert!(
            !again.stderr.contains("uploading"),
            "everything is there: {again:?}"
        );

        let jobs = bench.json(&[
            at, &url, "jobs", "list", "--task", "shapes", "--state", "queued", "--limit", "1",
        ]);
        assert_eq!(jobs.as_array().map(Vec::len), Some(1), "{jobs}");
        assert_eq!(jobs[0]["id"], again.stdout.trim(), "newest first");
        let job = bench.json(&[at, &url, "jobs", "get", &id[..id.len() - 1]]);
        assert_eq!(job["id"], id);
        let kinds: Vec<_> = job["stages"]
            .as_array()
            .expect("stages")
            .iter()
            .map(|stage| &stage["kind"])
            .collect();
        assert_eq!(
            kinds,
            ["teacher", "student", "candidate(2)", "candidate(6)", "select"]
        );
        bench
            .cli(&[at, &url, "jobs", "get", "shapes-"])
            .refused(2, &["shapes-"]);
        bench
            .cli(&[at, &url, "jobs", "get", "nothing-abc"])
            .refused(3, &["nothing-abc", "jobs list"]);
        bench
            .cli(&[at, &url, "registry", "get", "nothing"])
            .refused(3, &["nothing"]);

        bench
            .cli(&[at, &url, "jobs", "cancel", id])
            .refused(2, &["--yes"]);
        let cancelled = bench.json(&[at, &url, "jobs", "cancel", id, "--yes", "--reason", "not wanted"]);
        assert_eq!(cancelled["state"], "cancelled");
        bench
            .cli(&[at, &url, "jobs", "watch", id])
            .refused(4, &["not wanted"]);
        let logs = bench.cli(&[at, &url, "jobs", "logs", id]);
        assert!(
            logs.stdout.is_empty() && logs.stderr.contains("nothing was logged"),
            "{logs:?}"
        );
        let users = bench.json(&[at, &url, "users", "list"]);
        assert_eq!(
            users.as_array().map(Vec::len),
            Some(1),
            "they pay though nothing ran: {users}"
        );
        let waited = bench.cli(&[at, &url, "submit", "tasks.yaml", "--wait", "--timeout", "1s"]);
        waited.refused(5, &["jobs watch shapes-"]);
        assert_eq!(
            bench.cli(&[at, &url, "workers", "list", "-o", "yaml"]).stdout,
            "[]\n"
        );
    });
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_outlive_a_restart_of_the_coordinator() {
    let bench = Bench::new();
    let serving = Serving::start(&bench.path("state"), None).await;
    let (url, address) = (serving.url(), serving.address);
    let mut follower = bench.start(&["--coordinator", &url, "submit", "tasks.yaml", "--follow"]);
    let told = tokio::task::block_in_place(|| follower.wait_for("shapes: job "));
    let id = told.rsplit(' ').next().expect("an id").to_owned();
    // Nobody trains: that is why it waits.
    tokio::task::block_in_place(|| follower.wait_for("shapes: queued: "));

    serving.stop().await;
    tokio::task::block_in_place(|| follower.wait_for("trying again"));
    let serving = Serving::start(&bench.path("state"), Some(address)).await;
    tokio::task::block_in_place(|| {
        follower.wait_for("the coordinator is back");
        let cancelled = bench.cli(&["--coordinator", &url, "jobs", "cancel", &id, "--yes", "-q"]);
        assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
        assert_eq!(follower.end().code(), Some(4));
    });
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_following_is_told_how_to_come_back() {
    let bench = Bench::new();
    let serving = Serving::start(&bench.path("state"), None).await;
    let url = serving.url();
    tokio::task::block_in_place(|| {
        let submitted = bench.cli(&["--coordinator", &url, "submit", "tasks.yaml", "-o", "name"]);
        let id = submitted.stdout.trim().to_owned();
        let mut follower = bench.start(&["--coordinator", &url, "jobs", "watch", &id]);
        follower.wait_for("Ctrl-C");
        follower.interrupt();
        follower.wait_for(&format!("jobs watch {id}"));
        assert_eq!(follower.end().code(), Some(4));
        let job = bench.json(&["--coordinator", &url, "jobs", "get", &id]);
        assert_eq!(job["state"], "queued", "it goes on");
    });
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_the_probes_is_told_from_that_of_grpc() {
    let bench = Bench::new();
    let serving = Serving::start(&bench.path("state"), None).await;
    let probes = format!("http://{}", serving.http);
    tokio::task::block_in_place(|| {
        for words in [&["jobs", "list"][..], &["submit", "tasks.yaml"]] {
            bench
                .cli(&[&["--coordinator", &probes], words].concat())
                .refused(6, &[&probes, "does not speak gRPC", "7400"]);
        }
    });
    serving.stop().await;
}
