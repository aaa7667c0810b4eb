//! Processes are killed; jobs complete all the same.

use nettailor_proto::v1::JobState;
use nettailor_tests::cluster::textures_task;
use nettailor_tests::process::trainers_of;
use nettailor_tests::{Cluster, watch};
use nix::sys::signal::{Signal, kill};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_the_coordinator_being_killed() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    let file = textures_task(&cluster, "survivor", "teacher: {epochs: 30}")?;
    let id = cluster.submit(&file)?.remove(0);
    watch::until_training(&cluster.address(), &id, "teacher").await?;
    let before = watch::get(&cluster.address(), &id).await?;
    let agent = cluster.workers[0].pid();
    let trainers = trainers_of(agent)?;
    assert_eq!(trainers.len(), 1, "the teacher is being trained");

    cluster.kill_coordinator()?;
    assert_eq!(
        trainers_of(agent)?,
        trainers,
        "running work goes on while the coordinator is away"
    );
    cluster.start_coordinator()?;
    let after = watch::until_final(&cluster.address(), &id).await?;

    assert_eq!(after.state(), JobState::Succeeded, "{after:?}");
    assert_eq!(watch::stage(&before, "teacher").attempt, 1);
    assert_eq!(
        watch::stage(&after, "teacher").attempt,
        1,
        "the running attempt was kept: {after:?}"
    );
    assert_eq!(cluster.cli_json(&["registry", "get", "survivor"])?["version"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_s_stage_completes_on_the_other() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    let file = textures_task(&cluster, "moved", "teacher: {epochs: 30}")?;
    let id = cluster.submit(&file)?.remove(0);
    watch::until_training(&cluster.address(), &id, "teacher").await?;
    cluster.start_worker("two")?;
    let trainer = trainers_of(cluster.workers[0].pid())?.remove(0);

    cluster.workers[0].kill()?;
    let job = watch::until_final(&cluster.address(), &id).await?;

    assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
    let teacher = watch::stage(&job, "teacher");
    assert_eq!(
        (teacher.attempt, &teacher.workers),
        (2, &vec!["two".to_owned()]),
        "{teacher:?}"
    );
    assert!(
        kill(trainer, None).is_err(),
        "the dead worker's trainer is dead too"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_trainer_costs_one_attempt() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    let file = textures_task(&cluster, "retried", "teacher: {epochs: 30}")?;
    let id = cluster.submit(&file)?.remove(0);
    watch::until_training(&cluster.address(), &id, "teacher").await?;

    kill(trainers_of(cluster.workers[0].pid())?.remove(0), Signal::SIGKILL)?;
    let job = watch::until_final(&cluster.address(), &id).await?;

    assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
    assert_eq!(watch::stage(&job, "teacher").attempt, 2, "{job:?}");
    Ok(())
}
