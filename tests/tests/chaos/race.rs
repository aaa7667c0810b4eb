//! A job is cancelled in the moment in which it is done.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use nettailor_proto::v1::{CancelJobRequest, JobState};
use nettailor_tests::chance::Chance;
use nettailor_tests::harm::eventually;
use nettailor_tests::watch;
use tokio::time::sleep;

use crate::end::{self, EndState};
use crate::scene::{self, Scene};

/// Races that are run.
const RACES: u32 = 100;
/// How often each outcome must be seen.
const OFTEN: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancellation_that_races_with_the_end_agrees_with_its_answer() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    scene.direct(5, vec![])?;
    // Only the last stage differs between the tasks.
    let task = |number: u32| {
        format!(
            "name: race-{number}, tolerance_points: {}",
            1.0 + f64::from(number) / 100.0
        )
    };
    let (first, inputs) = scene.upload(&task(0))?;
    scene.hire("one", 2)?;
    let address = scene.cluster.address();
    let first = watch::until_final(&address, &first).await?;
    ensure!(first.state() == JobState::Succeeded, "{first:?}");

    let mut chance = Chance::new(5);
    let mut answers = BTreeMap::new();
    let (mut won, mut lost) = (0, 0);
    // From the last stage's begin: longer after a cancellation that came in time, shorter after one that did not.
    let mut wait = Duration::from_millis(30);
    let mut jobs = watch::jobs(&address).await?;
    for number in 1..=RACES {
        let name = format!("race-{number}");
        let id = scene::submit(&address, &name, &task(number), &inputs).await?;
        let key = watch::stage(&watch::get(&address, &id).await?, "select")
            .key
            .clone();
        eventually("the last stage", Duration::from_millis(1), async || {
            let notes = scene.control.notes()?;
            Ok(notes.iter().any(|note| note.is_of(&key)).then_some(()))
        })
        .await?;
        sleep(wait + chance.pause(0..4)).await;
        let reason = "changed my mind".to_owned();
        let request = CancelJobRequest {
            id: id.clone(),
            reason,
        };
        let answer = jobs.cancel(request).await?.into_inner().state();
        match answer {
            JobState::Cancelled => (won, wait) = (won + 1, wait + Duration::from_millis(2)),
            JobState::Succeeded => (lost, wait) = (lost + 1, wait.saturating_sub(Duration::from_millis(2))),
            other => anyhow::bail!("a race ended as {other:?}"),
        }
        if number % 20 == 0 {
            // With nothing between the answer and the kill.
            scene.cluster.kill_coordinator()?;
            scene.cluster.start_coordinator()?;
            jobs = watch::jobs(&address).await?;
        }
        answers.insert(name, (id, answer));
    }
    eprintln!("seed 5: {won} cancellations came in time, {lost} did not");
    ensure!(
        won >= OFTEN && lost >= OFTEN,
        "only {won} came in time, or only {lost} did not"
    );

    let before = check(&scene, &answers).await?;
    scene.cluster.kill_coordinator()?;
    scene.cluster.start_coordinator()?;
    assert_eq!(
        check(&scene, &answers).await?,
        before,
        "what was answered did not last"
    );
    Ok(())
}

/// Every job stands as it was said, and has a model if and only if it succeeded.
async fn check(scene: &Scene, answers: &BTreeMap<String, (String, JobState)>) -> anyhow::Result<EndState> {
    let jobs = end::at_rest(scene).await?;
    for (name, (id, answer)) in answers {
        let job = watch::get(&scene.cluster.address(), id).await?;
        assert_eq!(job.state(), *answer, "{name}: {job:?}");
        let model = scene.cluster.cli(&["registry", "get", name])?;
        let expected = if *answer == JobState::Succeeded { 0 } else { 3 };
        assert_eq!(model.code, Some(expected), "{name}: {job:?}, {model:?}");
    }
    end::end_state(&scene.cluster, &jobs)
}
