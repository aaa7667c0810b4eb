//! Processes are stopped for eight seconds (SIGSTOP) and go on: longer than a worker may be silent, which takes five.

use std::time::Duration;

use anyhow::Context as _;
use nettailor_proto::v1::JobState;
use nettailor_tests::harm::eventually;
use nettailor_tests::process::{Process, process_state};
use nettailor_tests::script::What;
use nettailor_tests::watch;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::time::sleep;

use crate::end::{self, attempts_begun, notes_of};
use crate::scene::Scene;

/// How long a process is stopped.
const STOP: Duration = Duration::from_secs(8);

/// Stops a process and makes sure that it stands.
async fn stop(process: &Process) -> anyhow::Result<()> {
    process.signal(Signal::SIGSTOP)?;
    let pid = Pid::from_raw(i32::try_from(process.pid()).context("process ids are small")?);
    eventually("the stop", Duration::from_millis(1), async || {
        Ok((process_state(pid)? == Some('T')).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_agent_s_stage_goes_on_elsewhere_and_counts_once() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    // A teacher of 12 s: its trainer must not have ended by the time its agent goes on.
    scene.direct(100, vec![])?;
    scene.hire("one", 1)?;
    let task = "name: a, seed: 1, teacher: {epochs: 30}";
    let id = scene.submit(&[task])?.remove(0);
    let address = scene.cluster.address();
    watch::until_training(&address, &id, "teacher").await?;
    scene.direct(10, vec![])?;
    scene.hire("two", 1)?;

    let agent = scene.cluster.worker("one")?;
    stop(agent).await?;
    sleep(STOP).await;
    let begun = attempts_begun(&notes_of(&scene.control.notes()?, 1, "teacher"));
    agent.signal(Signal::SIGCONT)?;
    assert_eq!(begun, [1, 2], "it was not placed anew while its agent was silent");

    let jobs = end::at_rest(&scene).await?;
    assert_eq!(jobs[0].state(), JobState::Succeeded, "{jobs:?}");
    let teacher = watch::stage(&jobs[0], "teacher");
    assert_eq!(
        (teacher.attempt, &teacher.workers),
        (2, &vec!["two".to_owned()]),
        "{teacher:?}"
    );
    let notes = scene.control.notes()?;
    let notes = notes_of(&notes, 1, "teacher");
    let ended = notes.iter().filter(|note| note.what == What::Ended);
    let ended: Vec<u32> = ended.map(|note| note.attempt().1).collect();
    assert_eq!(ended, [2], "the first attempt was told to stop: {notes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_coordinator_takes_nobody_for_lost() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    // One teacher of 10 s, and one that ends while nobody listens.
    scene.direct(100, vec![])?;
    scene.hire("one", 1)?;
    scene.hire("two", 2)?;
    let tasks = [
        "name: long, seed: 1, teacher: {epochs: 25}",
        "name: short, seed: 2, teacher: {epochs: 5}",
    ];
    let ids = scene.submit(&tasks)?;
    let address = scene.cluster.address();
    for id in &ids {
        watch::until_training(&address, id, "teacher").await?;
    }

    let coordinator = scene.cluster.coordinator.as_ref().context("a coordinator runs")?;
    stop(coordinator).await?;
    scene.direct(10, vec![])?;
    sleep(STOP).await;
    let notes = scene.control.notes()?;
    let short = notes_of(&notes, 2, "teacher");
    assert!(
        short.iter().any(|note| note.what == What::Ended),
        "it did not end: {short:?}"
    );
    coordinator.signal(Signal::SIGCONT)?;

    let jobs = end::at_rest(&scene).await?;
    for job in &jobs {
        assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
        for stage in &job.stages {
            assert_eq!(stage.attempt, 1, "{stage:?}");
        }
    }
    end::all_survived(&scene.control.notes()?)
}
