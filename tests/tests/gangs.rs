//! Gangs over real processes: two workers tailor one task together, and come to the same result whatever happens to one
//! of them on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nettailor_proto::v1::{Job, JobState, StageState};
use nettailor_tests::cluster::textures_task;
use nettailor_tests::harm::{self, Gang, Moment};
use nettailor_tests::ledger::{self, Steps};
use nettailor_tests::network::{self, HOME, Network};
use nettailor_tests::{Cluster, watch};
use nix::sys::signal::{Signal, kill};
use tokio::sync::{Mutex, OnceCell};

/// Long enough to be met on the way, with a checkpoint after every epoch.
const TASK: &str = "workers: 2, teacher: {epochs: 30}, student: {training: {epochs: 20}}, \
                    candidates: {k: [6], training: {epochs: 10}}, resources: {checkpoint_seconds: 0}";

/// When which stage comes to harm, by which rank.
const HARM: [(&str, Moment, usize); 3] = [
    ("teacher", Moment::MidEpoch, 1),
    ("student", Moment::MidCheckpoint, 0),
    ("candidate(6)", Moment::MidAllReduce, 0),
];

/// Two trainers are as many as a small machine bears.
static ONE_GANG_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What a job came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Of everything about the model but when it was made.
    digest: String,
    /// By stage.
    trained_on: BTreeMap<String, Steps>,
}

fn outcome(cluster: &Cluster) -> anyhow::Result<Outcome> {
    let model = cluster.cli_json(&["registry", "get", "together"])?;
    let digest = model["digest"].as_str().context("a digest")?.to_owned();
    let trained_on = ledger::counted(&ledger::read(&cluster.ledger())?);
    for (stage, steps) in &trained_on {
        ensure!(!steps.is_empty(), "{stage} noted nothing");
        ledger::check(steps, 2)?;
    }
    let stages: Vec<&str> = trained_on.keys().map(String::as_str).collect();
    assert_eq!(stages, ["candidate(6)", "student", "teacher"]);
    Ok(Outcome { digest, trained_on })
}

/// What it comes to when nothing happens.
async fn undisturbed() -> anyhow::Result<&'static Outcome> {
    static OUTCOME: OnceCell<Outcome> = OnceCell::const_new();
    OUTCOME
        .get_or_try_init(async || {
            let mut cluster = Cluster::start()?;
            cluster.start_worker("one")?;
            cluster.start_worker("two")?;
            let job = cluster
                .submit(&textures_task(&cluster, "together", TASK)?)?
                .remove(0);
            let job = watch::until_final(&cluster.address(), &job).await?;
            assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
            for stage in ["teacher", "student", "candidate(6)"] {
                let stage = watch::stage(&job, stage);
                assert_eq!((stage.attempt, stage.world_size), (1, 2), "{stage:?}");
                let mut workers = stage.workers.clone();
                workers.sort();
                assert_eq!(workers, ["one", "two"], "{stage:?}");
            }
            outcome(&cluster)
        })
        .await
}

/// Submits the task to the cluster's two workers and lets `harm` happen to each stage, which is then tried again. What
/// becomes of the job must be what becomes of one that nothing happened to.
async fn survives(
    cluster: &Cluster,
    harm: impl AsyncFn(&Gang<'_>, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let id = cluster
        .submit(&textures_task(cluster, "together", TASK)?)?
        .remove(0);
    for (stage, moment, rank) in HARM {
        let gang = Gang::of(cluster, &id, stage).await?;
        gang.stop(rank, moment).await?;
        harm(&gang, rank).await?;
        gang.until_tried_again().await?;
    }
    let job = watch::until_final(&cluster.address(), &id).await?;
    assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
    for (stage, ..) in HARM {
        let stage = watch::stage(&job, stage);
        assert_eq!((stage.attempt, stage.world_size), (2, 2), "{stage:?}");
    }
    // Not from the start again: there was a checkpoint.
    let entries = ledger::read(&cluster.ledger())?;
    let second = entries
        .iter()
        .filter(|entry| entry.stage == "teacher" && entry.attempt.ends_with("#2"));
    assert!(second.map(|entry| entry.step).min() > Some(0));
    assert_eq!(&outcome(cluster)?, undisturbed().await?);
    Ok(())
}

/// Waits until the log of a stage says that a rank noticed the loss of another.
async fn until_noticed(cluster: &Cluster, gang: &Gang<'_>) -> anyhow::Result<()> {
    harm::eventually("a rank that noticed", Duration::from_millis(200), async || {
        let logs = cluster.cli(&["jobs", "logs", gang.job(), "--stage", gang.stage()])?;
        ensure!(logs.code == Some(0), "{logs:?}");
        Ok(logs.stdout.contains("the gang was aborted: ").then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_survives_a_rank_that_is_killed() -> anyhow::Result<()> {
    let _alone = ONE_GANG_AT_A_TIME.lock().await;
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    cluster.start_worker("two")?;
    survives(&cluster, async |gang, rank| {
        kill(gang.trainer(rank), Signal::SIGKILL)?;
        gang.until_ended(&[0, 1]).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_survives_a_rank_that_is_stopped() -> anyhow::Result<()> {
    let _alone = ONE_GANG_AT_A_TIME.lock().await;
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    cluster.start_worker("two")?;
    survives(&cluster, async |gang, _| {
        // It stays stopped. The other one does not wait for it, and says why; then it is ended for good.
        gang.until_ended(&[0, 1]).await?;
        until_noticed(&cluster, gang).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_survives_a_network_that_is_cut() -> anyhow::Result<()> {
    let _alone = ONE_GANG_AT_A_TIME.lock().await;
    if !network::inside("a_gang_survives_a_network_that_is_cut")? {
        return Ok(());
    }
    let network = Network::new()?;
    let mut cluster = Cluster::at(HOME)?;
    cluster.start_worker("one")?;
    cluster.launch_worker(&network.launcher(), "two")?;
    survives(&cluster, async |gang, rank| {
        network.cut()?;
        kill(gang.trainer(rank), Signal::SIGCONT)?;
        // Each side notices by itself: nobody can tell the other.
        gang.until_ended(&[0, 1]).await?;
        network.mend()?;
        until_noticed(&cluster, gang).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gangs_and_small_tasks_share_three_slots() -> anyhow::Result<()> {
    let _alone = ONE_GANG_AT_A_TIME.lock().await;
    let mut cluster = Cluster::start()?;
    for name in ["one", "two", "three"] {
        cluster.start_worker(name)?;
    }
    let short =
        "teacher: {epochs: 1}, student: {training: {epochs: 1}}, candidates: {k: [6], training: {epochs: 1}}";
    // By seed, so that no stage is another one's.
    let tasks = [("wide-1", 2), ("narrow-1", 1), ("wide-2", 2), ("narrow-2", 1)];
    let mut jobs = Vec::new();
    let mut beside = false;
    for (seed, (name, workers)) in (1..).zip(tasks) {
        let task = format!("workers: {workers}, seed: {seed}, {short}");
        jobs.push(cluster.submit(&textures_task(&cluster, name, &task)?)?.remove(0));
    }
    let running = |job: &Job, ranks: u32| {
        let mut stages = job.stages.iter();
        stages.any(|stage| stage.state() == StageState::Running && stage.world_size == ranks)
    };
    harm::eventually("all jobs' end", Duration::from_millis(50), async || {
        let mut all = Vec::new();
        for id in &jobs {
            all.push(watch::get(&cluster.address(), id).await?);
        }
        beside |= all.iter().any(|job| running(job, 2)) && all.iter().any(|job| running(job, 1));
        Ok(all.iter().all(|job| watch::is_final(job.state())).then_some(()))
    })
    .await?;
    assert!(beside, "no small task ran beside a gang");
    for (id, (name, workers)) in jobs.iter().zip(tasks) {
        let job = watch::until_final(&cluster.address(), id).await?;
        assert_eq!(
            (job.state(), job.stages_run),
            (JobState::Succeeded, 4),
            "{name}: {job:?}"
        );
        for stage in ["teacher", "student", "candidate(6)"] {
            assert_eq!(watch::stage(&job, stage).world_size, workers, "{name}: {job:?}");
        }
    }
    Ok(())
}
