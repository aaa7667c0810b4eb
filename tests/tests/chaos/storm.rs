//! SIGKILLs under load: the coordinator, the agents, and both together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nettailor_proto::v1::{JobState, TaskInputs};
use nettailor_tests::chance::Chance;
use nettailor_tests::process::trainers_of;
use nettailor_tests::script::What;
use nettailor_tests::{ambient, watch};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::end::{self, EndState, Finished};
use crate::scene::{self, Scene};

/// Names and slots.
const AGENTS: [(&str, u32); 4] = [("a", 2), ("b", 1), ("c", 1), ("d", 1)];
/// A storm submits as long as fewer jobs are open: enough for all slots.
const OPEN: usize = 6;
/// Rounds of a short storm: one kill in each at least.
const ROUNDS: u32 = 40;
/// Tasks that a short storm submits at most.
const TASKS: u64 = 64;
/// Jobs whose stages are looked at in each round: the latest, for others have ended long before.
const LATEST: usize = 24;
/// A submission without an answer is repeated after this long.
const AGAIN: Duration = Duration::from_millis(20);

/// What is killed, and for how long.
struct Storm {
    seed: u64,
    coordinator: bool,
    agents: bool,
    until: Until,
}

enum Until {
    Rounds(u32),
    Time(Duration),
}

/// What a storm did.
#[derive(Debug, Default)]
struct Toll {
    /// Kills of the coordinator.
    coordinator: u32,
    /// Of these, with nothing between an answer and the kill.
    upon_an_answer: u32,
    /// Of these, while a submission was on its way.
    amid_a_submission: u32,
    /// Of these, while trainers ran.
    over_trainers: u32,
    /// Kills of agents.
    agents: u32,
    /// By name: kills of agents whose trainers had begun and never came to an end.
    at_work: BTreeMap<String, u32>,
    /// Submissions that were answered.
    acknowledged: Vec<String>,
    /// Agents that are dead.
    dead: BTreeSet<u32>,
}

/// The `number`-th task: gangs and searches among them.
fn task(number: u64) -> (String, String) {
    let name = format!("task-{number}");
    let more = match number % 4 {
        1 => ", workers: 2",
        2 => ", candidates: {search: halving}",
        _ => "",
    };
    let task = format!("name: {name}, seed: {number}{more}");
    (name, task)
}

/// What the tasks come to when nothing happens.
async fn undisturbed() -> anyhow::Result<&'static EndState> {
    static END: OnceCell<EndState> = OnceCell::const_new();
    END.get_or_try_init(async || {
        let mut scene = Scene::start()?;
        scene.direct(1, vec![])?;
        scene.hire("a", 4)?;
        let tasks: Vec<String> = (0..TASKS).map(|number| task(number).1).collect();
        scene.submit(&tasks.iter().map(String::as_str).collect::<Vec<_>>())?;
        let jobs = end::at_rest(&scene).await?;
        let mut finished = Finished::default();
        finished.look_at(&jobs)?;
        finished.agree_with(&scene.control.notes()?, &BTreeSet::new())?;
        for stage in jobs.iter().flat_map(|job| &job.stages) {
            ensure!(stage.attempt == 1, "nothing happened: {stage:?}");
        }
        end::end_state(&scene.cluster, &jobs)
    })
    .await
}

/// Submits until there is an answer.
async fn submit_stubbornly(address: String, number: u64, inputs: TaskInputs) -> anyhow::Result<String> {
    let (name, task) = task(number);
    let answered = async {
        loop {
            match scene::submit(&address, &name, &task, &inputs).await {
                Ok(id) => return id,
                Err(_) => sleep(AGAIN).await,
            }
        }
    };
    timeout(nettailor_tests::process::PATIENCE, answered)
        .await
        .context("no submission is answered")
}

impl Storm {
    /// Rages over a scene of its own, until all jobs have come to their end, and checks the promises.
    async fn rage(self) -> anyhow::Result<(Toll, EndState)> {
        eprintln!("seed {}", self.seed);
        let mut chance = Chance::new(self.seed);
        let mut scene = Scene::start()?;
        scene.direct(40, vec![])?;
        let (first, inputs) = scene.upload(&task(0).1)?;
        for (name, slots) in AGENTS {
            scene.hire(name, slots)?;
        }
        let mut toll = Toll {
            acknowledged: vec![first],
            ..Toll::default()
        };
        let mut finished = Finished::default();
        let address = scene.cluster.address();
        let submit = move |number| submit_stubbornly(address.clone(), number, inputs.clone());
        let begun = Instant::now();
        let (mut round, mut next) = (0, 1);
        let mut pending: Option<JoinHandle<anyhow::Result<String>>> = None;
        loop {
            let goes_on = match self.until {
                Until::Rounds(rounds) => round < rounds,
                Until::Time(time) => begun.elapsed() < time,
            };
            if !goes_on {
                break;
            }
            if let Some(pending) = pending.take() {
                toll.acknowledged.push(pending.await??);
            }
            let most = match self.until {
                Until::Rounds(_) => TASKS - 2,
                Until::Time(_) => u64::MAX,
            };
            for _ in open_jobs(&scene).await?..OPEN {
                if next < most {
                    toll.acknowledged.push(submit(next).await?);
                    next += 1;
                }
            }
            sleep(chance.pause(50..700)).await;
            let kill_coordinator = self.coordinator && (!self.agents || chance.within(0..2) == 0);
            let kill_agent = self.agents && (!kill_coordinator || chance.within(0..3) == 0);
            if kill_agent {
                let (name, slots) = AGENTS[toll.agents as usize % AGENTS.len()];
                kill_an_agent(&mut scene, name, &mut toll).await?;
                scene.send_in(&[], name, slots)?;
            }
            if kill_coordinator {
                match chance.within(0..3) {
                    0 => {
                        toll.acknowledged.push(submit(next).await?);
                        next += 1;
                        toll.upon_an_answer += 1;
                    }
                    1 => {
                        pending = Some(tokio::spawn(submit(next)));
                        next += 1;
                        sleep(chance.pause(0..8)).await;
                        toll.amid_a_submission += 1;
                    }
                    _ => {}
                }
                let mut trainers = 0;
                for agent in &scene.cluster.workers {
                    trainers += trainers_of(agent.pid())?.len();
                }
                scene.cluster.kill_coordinator()?;
                toll.coordinator += 1;
                toll.over_trainers += u32::from(trainers > 0);
                sleep(chance.pause(0..100)).await;
                scene.cluster.start_coordinator()?;
                check_listed(&scene, &toll).await?;
            }
            look(&scene, &toll, &mut finished).await?;
            round += 1;
        }
        if let Some(pending) = pending {
            toll.acknowledged.push(pending.await??);
        }
        let jobs = end::at_rest(&scene).await?;
        check_listed(&scene, &toll).await?;
        for job in &jobs {
            ensure!(job.state() == JobState::Succeeded, "{job:?}");
        }
        finished.look_at(&jobs)?;
        let notes = scene.control.notes()?;
        finished.agree_with(&notes, &toll.dead)?;
        if !self.agents {
            end::all_survived(&notes)?;
        }
        eprintln!(
            "{} kills of the coordinator ({} upon an answer, {} amid a submission, {} over trainers), {} of agents ({:?} at work); \
             {} submissions answered, {} jobs, {} stages finished, all in {:.0?}",
            toll.coordinator,
            toll.upon_an_answer,
            toll.amid_a_submission,
            toll.over_trainers,
            toll.agents,
            toll.at_work,
            toll.acknowledged.len(),
            jobs.len(),
            finished.count(),
            begun.elapsed(),
        );
        Ok((toll, end::end_state(&scene.cluster, &jobs)?))
    }
}

/// Kills an agent, at work if it finds work soon.
async fn kill_an_agent(scene: &mut Scene, name: &str, toll: &mut Toll) -> anyhow::Result<()> {
    let agent = scene.cluster.worker(name)?.pid();
    let at_work = async {
        while trainers_of(agent)?.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    // It may have none: others do the work, or the coordinator has not found it again.
    if let Ok(found) = timeout(Duration::from_secs(1), at_work).await {
        found?;
    }
    let trainers = trainers_of(agent)?;
    scene.cluster.worker_mut(name)?.kill()?;
    toll.agents += 1;
    toll.dead.insert(agent);
    let notes = scene.control.notes()?;
    let interrupted = trainers.iter().filter(|trainer| {
        let of_trainer = notes
            .iter()
            .filter(|note| i64::from(note.pid) == i64::from(trainer.as_raw()));
        let noted: Vec<&What> = of_trainer.map(|note| &note.what).collect();
        noted.contains(&&What::Begun) && !noted.contains(&&What::Ended)
    });
    if interrupted.count() > 0 {
        *toll.at_work.entry(name.to_owned()).or_default() += 1;
    }
    Ok(())
}

async fn open_jobs(scene: &Scene) -> anyhow::Result<usize> {
    let jobs = watch::list(&scene.cluster.address()).await?;
    Ok(jobs.iter().filter(|job| !watch::is_final(job.state())).count())
}

/// Every acknowledged job is there.
async fn check_listed(scene: &Scene, toll: &Toll) -> anyhow::Result<()> {
    let jobs = watch::list(&scene.cluster.address()).await?;
    let listed: BTreeSet<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    for id in &toll.acknowledged {
        ensure!(listed.contains(id.as_str()), "{id} was acknowledged and is lost");
    }
    Ok(())
}

/// Takes down which stages of the latest jobs are finished.
async fn look(scene: &Scene, toll: &Toll, finished: &mut Finished) -> anyhow::Result<()> {
    let mut jobs = Vec::new();
    for id in toll.acknowledged.iter().rev().take(LATEST) {
        jobs.push(watch::get(&scene.cluster.address(), id).await?);
    }
    finished.look_at(&jobs)
}

/// What was left is what an undisturbed run leaves, of all tasks that it knows.
async fn check_end(end: &EndState) -> anyhow::Result<()> {
    let expected = undisturbed().await?;
    let known: Vec<_> = end
        .iter()
        .filter(|(task, _)| expected.contains_key(*task))
        .collect();
    assert_eq!(known.len(), end.len().min(expected.len()));
    for (task, ending) in known {
        assert_eq!(Some(ending), expected.get(task), "{task}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_and_nothing_is_repeated_when_the_coordinator_is_killed()
-> anyhow::Result<()> {
    let storm = Storm {
        seed: 1,
        coordinator: true,
        agents: false,
        until: Until::Rounds(ROUNDS),
    };
    let (toll, end) = storm.rage().await?;
    assert_eq!((toll.coordinator, toll.agents), (ROUNDS, 0), "{toll:?}");
    let kinds = [toll.upon_an_answer, toll.amid_a_submission, toll.over_trainers];
    assert!(kinds.iter().all(|kills| *kills > 0), "{toll:?}");
    check_end(&end).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_jobs_succeed_although_every_agent_is_killed_again_and_again() -> anyhow::Result<()> {
    let storm = Storm {
        seed: 2,
        coordinator: false,
        agents: true,
        until: Until::Rounds(ROUNDS),
    };
    let (toll, end) = storm.rage().await?;
    assert_eq!((toll.coordinator, toll.agents), (0, ROUNDS), "{toll:?}");
    assert!(
        AGENTS.iter().all(|(name, _)| toll.at_work.contains_key(*name)),
        "{toll:?}"
    );
    check_end(&end).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_end_is_the_same_although_both_are_killed() -> anyhow::Result<()> {
    let storm = Storm {
        seed: 3,
        coordinator: true,
        agents: true,
        until: Until::Rounds(ROUNDS),
    };
    let (toll, end) = storm.rage().await?;
    assert!(toll.coordinator >= 5 && toll.agents >= 5, "{toll:?}");
    assert!(toll.over_trainers > 0 && !toll.at_work.is_empty(), "{toll:?}");
    check_end(&end).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: `make chaos MINUTES=5`"]
async fn a_long_storm() -> anyhow::Result<()> {
    let number = |name: &str, usual| ambient::setting(name).map_or(Ok(usual), |text| text.parse::<u64>());
    let storm = Storm {
        seed: number("NETTAILOR_CHAOS_SEED", 4)?,
        coordinator: true,
        agents: true,
        until: Until::Time(Duration::from_secs(60 * number("NETTAILOR_CHAOS_MINUTES", 5)?)),
    };
    let (toll, end) = storm.rage().await?;
    assert!(toll.coordinator > 0 && toll.agents > 0, "{toll:?}");
    assert!(toll.over_trainers > 0 && !toll.at_work.is_empty(), "{toll:?}");
    check_end(&end).await
}
