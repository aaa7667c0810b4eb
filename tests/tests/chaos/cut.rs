//! The cable between an agent and the coordinator is cut, both ways and without a word.

use std::time::Duration;

use anyhow::ensure;
use nettailor_proto::v1::{Job, JobState};
use nettailor_tests::network::{self, HOME, Network};
use nettailor_tests::{Cluster, watch};
use tokio::time::sleep;

use crate::end::{self, attempts_begun, notes_of};
use crate::scene::Scene;

/// Cuts the cable and makes sure that nothing comes through for this time.
async fn cut(network: &Network, time: Duration) -> anyhow::Result<()> {
    ensure!(network.received()? > 0, "the cable was never used");
    network.cut()?;
    // What was on its way may be counted a moment later.
    sleep(time / 10).await;
    let before = network.received()?;
    sleep(time * 9 / 10).await;
    let now = network.received()?;
    ensure!(
        now == before,
        "{} packets came through a cable that is cut",
        now.abs_diff(before)
    );
    Ok(())
}

/// A teacher is trained beyond the cable, which is cut for so long; the job's end and the attempts of the teacher that began
/// by the time the cable was mended.
async fn cut_for(time: Duration) -> anyhow::Result<(Job, Vec<u32>)> {
    let network = Network::new()?;
    let mut scene = Scene::of(Cluster::at(HOME)?)?;
    scene.direct(100, vec![])?;
    scene.hire_through(&network.launcher(), "away", 1)?;
    let id = scene
        .submit(&["name: a, seed: 1, teacher: {epochs: 30}"])?
        .remove(0);
    watch::until_training(&scene.cluster.address(), &id, "teacher").await?;
    scene.direct(10, vec![])?;
    scene.hire("home", 1)?;

    cut(&network, time).await?;
    let begun = attempts_begun(&notes_of(&scene.control.notes()?, 1, "teacher"));
    network.mend()?;
    let job = end::at_rest(&scene).await?.remove(0);
    assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
    Ok((job, begun))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cable_that_is_cut_for_a_moment_costs_no_attempt() -> anyhow::Result<()> {
    if !network::inside("cut::a_cable_that_is_cut_for_a_moment_costs_no_attempt")? {
        return Ok(());
    }
    let (job, _) = cut_for(Duration::from_secs(2)).await?;
    let teacher = watch::stage(&job, "teacher");
    assert_eq!(
        (teacher.attempt, &teacher.workers),
        (1, &vec!["away".to_owned()]),
        "{teacher:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_beyond_a_cut_cable_goes_on_at_home() -> anyhow::Result<()> {
    if !network::inside("cut::a_stage_beyond_a_cut_cable_goes_on_at_home")? {
        return Ok(());
    }
    let (job, begun) = cut_for(Duration::from_secs(8)).await?;
    assert_eq!(
        begun,
        [1, 2],
        "it was not placed anew while nothing was heard of its worker"
    );
    let teacher = watch::stage(&job, "teacher");
    assert_eq!(
        (teacher.attempt, &teacher.workers),
        (2, &vec!["home".to_owned()]),
        "{teacher:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_goes_on_when_all_workers_are_cut_off_at_once() -> anyhow::Result<()> {
    if !network::inside("cut::a_gang_goes_on_when_all_workers_are_cut_off_at_once")? {
        return Ok(());
    }
    let network = Network::new()?;
    let mut scene = Scene::of(Cluster::at(HOME)?)?;
    scene.direct(100, vec![])?;
    for name in ["one", "two"] {
        scene.hire_through(&network.launcher(), name, 1)?;
    }
    let task = "name: a, seed: 1, workers: 2, teacher: {epochs: 30}";
    let id = scene.submit(&[task])?.remove(0);
    watch::until_training(&scene.cluster.address(), &id, "teacher").await?;
    scene.direct(10, vec![])?;

    // More than half of the workers fall silent: that is not their doing, and nobody is there who could take over.
    cut(&network, Duration::from_secs(8)).await?;
    network.mend()?;
    let job = end::at_rest(&scene).await?.remove(0);
    let teacher = watch::stage(&job, "teacher");
    assert_eq!(
        (job.state(), teacher.attempt),
        (JobState::Succeeded, 1),
        "{job:?}"
    );
    assert_eq!(teacher.world_size, 2, "{teacher:?}");
    end::all_survived(&scene.control.notes()?)
}
