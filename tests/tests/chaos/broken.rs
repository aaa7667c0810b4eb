//! Trainers fail, hang and leave broken checkpoints.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nettailor_domain::trainer::FailureClass;
use nettailor_proto::v1::{Job, JobState};
use nettailor_tests::harm::eventually;
use nettailor_tests::process::{process_state, trainers_of};
use nettailor_tests::script::{Act, Cue, Note, What};
use nettailor_tests::{Cluster, backbone, watch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::end::{self, attempts_begun, notes_of};
use crate::scene::{Scene, tasks_over};

/// What goes wrong with a task's student, and what must become of it.
struct Case {
    name: &'static str,
    /// What the task says besides.
    task: &'static str,
    act: Act,
    until_attempt: u32,
    /// Attempts in all; the job fails with the last where the act comes every time.
    attempts: u32,
    state: JobState,
}

const ALWAYS: u32 = u32::MAX;

const CASES: [Case; 8] = [
    Case {
        name: "input",
        task: "",
        act: Act::Fail(FailureClass::Input),
        until_attempt: 1,
        attempts: 1,
        state: JobState::Failed,
    },
    Case {
        name: "resources",
        task: "",
        act: Act::Fail(FailureClass::Resources),
        until_attempt: 1,
        attempts: 2,
        state: JobState::Succeeded,
    },
    Case {
        name: "internal",
        task: "",
        act: Act::Fail(FailureClass::Internal),
        until_attempt: ALWAYS,
        attempts: 3,
        state: JobState::Failed,
    },
    Case {
        name: "counted",
        task: ", resources: {max_attempts: 1}",
        act: Act::Fail(FailureClass::Resources),
        until_attempt: 1,
        attempts: 1,
        state: JobState::Failed,
    },
    Case {
        name: "not-counted",
        task: ", resources: {max_attempts: 1}",
        act: Act::Fail(FailureClass::Lost),
        until_attempt: 3,
        attempts: 4,
        state: JobState::Succeeded,
    },
    Case {
        name: "without-a-word",
        task: "",
        act: Act::Exit,
        until_attempt: 1,
        attempts: 2,
        state: JobState::Succeeded,
    },
    Case {
        name: "hangs",
        task: ", resources: {stage_minutes: 1}",
        act: Act::Hang,
        until_attempt: 1,
        attempts: 2,
        state: JobState::Succeeded,
    },
    Case {
        name: "hangs-deafly",
        task: ", resources: {stage_minutes: 1}",
        act: Act::HangDeafly,
        until_attempt: 1,
        attempts: 2,
        state: JobState::Succeeded,
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trainers_that_break_are_tried_again_as_their_class_says() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    // After the first epoch, of which there is a checkpoint.
    let cue = |(seed, case): (u64, &Case)| Cue {
        seed,
        stage: "student".to_owned(),
        until_attempt: case.until_attempt,
        step: 5,
        act: case.act.clone(),
    };
    scene.direct(10, (1..).zip(&CASES).map(cue).collect())?;
    // Room for everything on each: what can go on elsewhere does. Of what breaks for the first time, no worker gets so much that it
    // would be left alone.
    for name in ["one", "two", "three", "four"] {
        scene.hire(name, 16)?;
    }
    // Over weights of one's own, as they come from a publisher.
    backbone::blank(&scene.cluster.folder().join("blank.safetensors"), "lite0")?;
    let task = |(seed, case): (u64, &Case)| format!("name: {}, seed: {seed}{}", case.name, case.task);
    let tasks: Vec<String> = (1..).zip(&CASES).map(task).collect();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let file = tasks_over("{arch: lite0, weights: blank.safetensors}", &tasks);
    scene.cluster.write("tasks.yaml", &file)?;
    let ids = scene.cluster.submit("tasks.yaml")?;

    end::at_rest(&scene).await?;
    let notes = scene.control.notes()?;
    for ((seed, case), id) in (1..).zip(&CASES).zip(&ids) {
        let job = watch::get(&scene.cluster.address(), id).await?;
        let notes = notes_of(&notes, seed, "student");
        check(case, &job, &notes).with_context(|| format!("{}: {job:?} {notes:?}", case.name))?;
    }
    Ok(())
}

fn check(case: &Case, job: &Job, notes: &[&Note]) -> anyhow::Result<()> {
    ensure!(job.state() == case.state, "it should be {:?}", case.state);
    let numbers: Vec<u32> = (1..=case.attempts).collect();
    ensure!(
        attempts_begun(notes) == numbers,
        "there should be {} attempts",
        case.attempts
    );
    ensure!(watch::stage(job, "student").attempt == case.attempts);
    let acted = notes
        .iter()
        .filter(|note| note.what == What::Acted(case.act.clone()));
    let expected = case.attempts.min(case.until_attempt) as usize;
    ensure!(
        acted.clone().count() == expected,
        "it should have gone wrong {expected} times"
    );
    for note in acted {
        let pid = Pid::from_raw(i32::try_from(note.pid)?);
        ensure!(process_state(pid)?.is_none(), "trainer {pid} lives on");
    }
    // Each goes on from the newest checkpoint; but one whose trainer broke before it left a checkpoint of its own takes the
    // one it began with along. What may have been the worker's fault goes on elsewhere.
    let breaks = matches!(case.act, Act::Exit | Act::Fail(FailureClass::Internal));
    let begun: Vec<&Note> = notes
        .iter()
        .copied()
        .filter(|note| note.what == What::Begun)
        .collect();
    for pair in begun.windows(2) {
        let expected = if breaks && pair[0].step > 0 { 0 } else { 4 };
        ensure!(
            pair[1].step == expected,
            "attempt {} should begin at step {expected}",
            pair[1].attempt
        );
        ensure!(
            case.act == Act::Fail(FailureClass::Lost) || pair[0].agent != pair[1].agent,
            "{} should be tried elsewhere",
            pair[1].attempt
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_a_trainer_cut_short_is_given_up() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    // Before any other checkpoint: of several the agent uploads one at a time, and the trainer's end cuts the rest off.
    let cue = Cue {
        seed: 1,
        stage: "teacher".to_owned(),
        until_attempt: 1,
        step: 1,
        act: Act::TruncateCheckpoint,
    };
    scene.direct(10, vec![cue])?;
    for name in ["one", "two"] {
        scene.hire(name, 1)?;
    }
    let id = scene.submit(&["name: a, seed: 1"])?.remove(0);
    end::at_rest(&scene).await?;
    let job = watch::get(&scene.cluster.address(), &id).await?;
    let notes = scene.control.notes()?;
    let notes = notes_of(&notes, 1, "teacher");
    assert!(
        notes
            .iter()
            .any(|note| note.what == What::Acted(Act::TruncateCheckpoint)),
        "{notes:?}"
    );
    // The second could not even begin; the third took every step.
    assert_eq!(attempts_begun(&notes), [1, 3], "{notes:?}");
    let third = notes
        .iter()
        .rfind(|note| note.what == What::Begun)
        .context("a third attempt")?;
    assert_eq!(third.step, 0, "{notes:?}");
    assert_eq!(
        (job.state(), watch::stage(&job, "teacher").attempt),
        (JobState::Succeeded, 3),
        "{job:?}"
    );
    ends_as_if_nothing_had_happened(&scene, "name: a, seed: 1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_was_cut_short_in_the_store_is_given_up() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    scene.direct(50, vec![])?;
    for name in ["one", "two"] {
        scene.hire(name, 1)?;
    }
    let task = "name: a, seed: 1, teacher: {epochs: 20}";
    let id = scene.submit(&[task])?.remove(0);
    let address = scene.cluster.address();
    let worker = eventually("a checkpoint", Duration::from_millis(20), async || {
        let job = watch::get(&address, &id).await?;
        let teacher = watch::stage(&job, "teacher");
        let kept = teacher.checkpoint_epoch.is_some();
        Ok(teacher.workers.first().filter(|_| kept).cloned())
    })
    .await?;
    let trainer = *trainers_of(scene.cluster.worker(&worker)?.pid())?
        .first()
        .context("it trains")?;
    kill(trainer, Signal::SIGSTOP)?;
    // What it left last may still be on its way.
    let cut = eventually(
        "the checkpoint in the store",
        Duration::from_millis(300),
        async || {
            let before = checkpoints(&scene.cluster)?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(Some(before.clone()).filter(|before| {
                !before.is_empty() && checkpoints(&scene.cluster).is_ok_and(|now| now == *before)
            }))
        },
    )
    .await?;
    for file in &cut {
        let bytes = fs::read(file)?;
        fs::write(file, &bytes[..bytes.len() / 2])?;
    }
    kill(trainer, Signal::SIGKILL)?;
    scene.direct(10, vec![])?;

    end::at_rest(&scene).await?;
    let job = watch::get(&address, &id).await?;
    assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
    let said: Vec<String> = scene
        .cluster
        .workers
        .iter()
        .map(nettailor_tests::Process::output)
        .collect();
    assert!(
        said.iter()
            .any(|said| said.contains("the checkpoint to go on from is gone")),
        "{said:?}"
    );
    let notes = scene.control.notes()?;
    let notes = notes_of(&notes, 1, "teacher");
    let last = notes
        .iter()
        .rfind(|note| note.what == What::Begun)
        .context("a last attempt")?;
    assert_eq!((last.step, attempts_begun(&notes)), (0, vec![1, 3]), "{notes:?}");
    ends_as_if_nothing_had_happened(&scene, task).await
}

/// The blobs that are checkpoints of scripted stages.
fn checkpoints(cluster: &Cluster) -> anyhow::Result<BTreeSet<std::path::PathBuf>> {
    let mut found = BTreeSet::new();
    for blob in fs::read_dir(cluster.blobs())? {
        let path = blob?.path();
        // One that is removed meanwhile is none any more.
        let text = fs::read(&path).unwrap_or_default();
        if serde_json::from_slice::<serde_json::Value>(&text).is_ok_and(|left| left["step"].is_u64()) {
            found.insert(path);
        }
    }
    Ok(found)
}

async fn ends_as_if_nothing_had_happened(scene: &Scene, task: &str) -> anyhow::Result<()> {
    let end = end::end_state(&scene.cluster, &end::at_rest(scene).await?)?;
    let mut other = Scene::start()?;
    other.direct(1, vec![])?;
    other.hire("one", 2)?;
    other.submit(&[task])?;
    let jobs = end::at_rest(&other).await?;
    assert_eq!(end, end::end_state(&other.cluster, &jobs)?);
    Ok(())
}
