//! SIGKILLs under load: the coordinator, the agents, and both together.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nettailor_proto::v1::{Job, JobState, TaskInputs};
use nettailor_tests::chance::Chance;
use nettailor_tests::process::{PATIENCE, trainers_of};
use nettailor_tests::script::{Note, What};
use nettailor_tests::{ambient, watch};
use nix::unistd::Pid;
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
/// Tasks of the undisturbed run: more than a short storm submits.
const TASKS: u64 = 64;
/// Jobs whose stages are looked at in each round: the latest, for others have ended long before.
const LATEST: usize = 24;
/// A submission without an answer is repeated after this long.
const AGAIN: Duration = Duration::from_millis(20);

/// What is killed, and for how long.
struct Plan {
    seed: u64,
    coordinator: bool,
    agents: bool,
    until: Until,
}

#[derive(Clone, Copy)]
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
    /// Submissions that were answered: the jobs' ids.
    acknowledged: Vec<String>,
    /// Agents that were killed: their process ids.
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
    timeout(PATIENCE, answered)
        .await
        .context("no submission is answered")
}

/// A scene in a storm.
struct Storm {
    scene: Scene,
    inputs: TaskInputs,
    chance: Chance,
    toll: Toll,
    finished: Finished,
    /// Number of the next task.
    next: u64,
    /// A submission whose answer is waited for.
    pending: Option<JoinHandle<anyhow::Result<String>>>,
}

/// Carries out a plan on a scene of its own, waits until all jobs have come to their end, and checks the promises.
async fn rage(plan: Plan) -> anyhow::Result<(Toll, EndState)> {
    let mut storm = Storm::begin(plan.seed)?;
    let begun = Instant::now();
    let goes_on = |round| match plan.until {
        Until::Rounds(rounds) => round < rounds,
        Until::Time(time) => begun.elapsed() < time,
    };
    for _ in (0..).take_while(|round| goes_on(*round)) {
        storm.keep_busy().await?;
        let pause = storm.chance.pause(50..700);
        sleep(pause).await;
        let coordinator = plan.coordinator && (!plan.agents || storm.chance.within(0..2) == 0);
        if plan.agents && (!coordinator || storm.chance.within(0..3) == 0) {
            storm.kill_an_agent().await?;
        }
        if coordinator {
            storm.kill_the_coordinator().await?;
        }
        storm.look().await?;
    }
    let (jobs, notes) = storm.calm_down().await?;
    if !plan.agents {
        end::all_survived(&notes)?;
    }
    let end = end::end_state(&storm.scene.cluster, &jobs)?;
    let toll = storm.toll;
    eprintln!(
        "seed {}: {} kills of the coordinator ({} upon an answer, {} amid a submission, {} over trainers), {} of agents \
         (at work: {:?}); {} submissions answered, {} jobs, {} stages finished, {} attempts begun, in {:.0?}",
        plan.seed,
        toll.coordinator,
        toll.upon_an_answer,
        toll.amid_a_submission,
        toll.over_trainers,
        toll.agents,
        toll.at_work,
        toll.acknowledged.len(),
        jobs.len(),
        storm.finished.count(),
        notes
            .iter()
            .filter(|note| note.what == What::Begun && note.rank == 0)
            .count(),
        begun.elapsed(),
    );
    Ok((toll, end))
}

impl Storm {
    fn begin(seed: u64) -> anyhow::Result<Self> {
        let mut scene = Scene::start()?;
        scene.direct(40, vec![])?;
        let (first, inputs) = scene.upload(&task(0).1)?;
        for (name, slots) in AGENTS {
            scene.hire(name, slots)?;
        }
        Ok(Self {
            scene,
            inputs,
            chance: Chance::new(seed),
            toll: Toll {
                acknowledged: vec![first],
                ..Toll::default()
            },
            finished: Finished::default(),
            next: 1,
            pending: None,
        })
    }

    /// Submits the next task.
    fn submit(&mut self) -> impl Future<Output = anyhow::Result<String>> + Send + use<> {
        self.next += 1;
        submit_stubbornly(self.scene.cluster.address(), self.next - 1, self.inputs.clone())
    }

    async fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        watch::list(&self.scene.cluster.address()).await
    }

    /// Hears the answer to a submission that is on its way.
    async fn hear(&mut self) -> anyhow::Result<()> {
        if let Some(pending) = self.pending.take() {
            self.toll.acknowledged.push(pending.await??);
        }
        Ok(())
    }

    /// Sees to it that there is work for everybody.
    async fn keep_busy(&mut self) -> anyhow::Result<()> {
        self.hear().await?;
        let jobs = self.jobs().await?;
        let open = jobs.iter().filter(|job| !watch::is_final(job.state())).count();
        for _ in open..OPEN {
            let id = self.submit().await?;
            self.toll.acknowledged.push(id);
        }
        Ok(())
    }

    /// Kills the next agent, at work if it finds work soon, and starts it again.
    async fn kill_an_agent(&mut self) -> anyhow::Result<()> {
        let (name, slots) = AGENTS[self.toll.agents as usize % AGENTS.len()];
        let agent = self.scene.cluster.worker(name)?.pid();
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
        let trainers: Vec<i32> = trainers_of(agent)?.into_iter().map(Pid::as_raw).collect();
        let ended = self.scene.cluster.worker_mut(name)?.kill()?;
        ensure!(ended.signal() == Some(9), "{name} ended by itself: {ended}");
        self.toll.agents += 1;
        self.toll.dead.insert(agent);
        let notes = self.scene.control.notes()?;
        let noted = |trainer: i32, what: What| {
            let mut notes = notes.iter();
            notes.any(|note| {
                note.agent == agent && i64::from(note.pid) == i64::from(trainer) && note.what == what
            })
        };
        let mut trainers = trainers.into_iter();
        if trainers.any(|trainer| noted(trainer, What::Begun) && !noted(trainer, What::Ended)) {
            *self.toll.at_work.entry(name.to_owned()).or_default() += 1;
        }
        self.scene.send_in(&[], name, slots)
    }

    /// Kills the coordinator, starts it again, and finds every acknowledged job.
    async fn kill_the_coordinator(&mut self) -> anyhow::Result<()> {
        let mut trainers = 0;
        for agent in &self.scene.cluster.workers {
            trainers += trainers_of(agent.pid())?.len();
        }
        self.toll.over_trainers += u32::from(trainers > 0);
        match self.chance.within(0..3) {
            0 => {
                let id = self.submit().await?;
                self.toll.acknowledged.push(id);
                self.toll.upon_an_answer += 1;
            }
            1 => {
                self.pending = Some(tokio::spawn(self.submit()));
                let pause = self.chance.pause(0..8);
                sleep(pause).await;
                self.toll.amid_a_submission += 1;
            }
            _ => {}
        }
        self.scene.cluster.kill_coordinator()?;
        self.toll.coordinator += 1;
        let pause = self.chance.pause(0..100);
        sleep(pause).await;
        self.scene.cluster.start_coordinator()?;
        self.check_listed().await
    }

    /// Every acknowledged job is there.
    async fn check_listed(&self) -> anyhow::Result<()> {
        let jobs = self.jobs().await?;
        let listed: BTreeSet<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        for id in &self.toll.acknowledged {
            ensure!(listed.contains(id.as_str()), "{id} was acknowledged and is lost");
        }
        Ok(())
    }

    /// Takes down which stages of the latest jobs are finished.
    async fn look(&mut self) -> anyhow::Result<()> {
        let mut jobs = Vec::new();
        for id in self.toll.acknowledged.iter().rev().take(LATEST) {
            jobs.push(watch::get(&self.scene.cluster.address(), id).await?);
        }
        self.finished.look_at(&jobs)
    }

    /// Waits for the end of everything; fails unless all that was acknowledged succeeded and nothing finished was repeated.
    async fn calm_down(&mut self) -> anyhow::Result<(Vec<Job>, Vec<Note>)> {
        self.hear().await?;
        let jobs = end::at_rest(&self.scene).await?;
        self.check_listed().await?;
        for job in &jobs {
            ensure!(job.state() == JobState::Succeeded, "{job:?}");
        }
        self.finished.look_at(&jobs)?;
        let notes = self.scene.control.notes()?;
        self.finished.agree_with(&notes, &self.toll.dead)?;
        Ok((jobs, notes))
    }
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
    let plan = Plan {
        seed: 1,
        coordinator: true,
        agents: false,
        until: Until::Rounds(ROUNDS),
    };
    let (toll, end) = rage(plan).await?;
    assert_eq!((toll.coordinator, toll.agents), (ROUNDS, 0), "{toll:?}");
    let kinds = [toll.upon_an_answer, toll.amid_a_submission, toll.over_trainers];
    assert!(kinds.iter().all(|kills| *kills > 0), "{toll:?}");
    check_end(&end).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_jobs_succeed_although_every_agent_is_killed_again_and_again() -> anyhow::Result<()> {
    let plan = Plan {
        seed: 2,
        coordinator: false,
        agents: true,
        until: Until::Rounds(ROUNDS),
    };
    let (toll, end) = rage(plan).await?;
    assert_eq!((toll.coordinator, toll.agents), (0, ROUNDS), "{toll:?}");
    assert!(
        AGENTS.iter().all(|(name, _)| toll.at_work.contains_key(*name)),
        "{toll:?}"
    );
    check_end(&end).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_end_is_the_same_although_both_are_killed() -> anyhow::Result<()> {
    let plan = Plan {
        seed: 3,
        coordinator: true,
        agents: true,
        until: Until::Rounds(ROUNDS),
    };
    let (toll, end) = rage(plan).await?;
    assert!(toll.coordinator >= 5 && toll.agents >= 5, "{toll:?}");
    assert!(toll.over_trainers > 0 && !toll.at_work.is_empty(), "{toll:?}");
    check_end(&end).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: `make chaos MINUTES=5`"]
async fn a_long_storm() -> anyhow::Result<()> {
    let number = |name: &str, usual| ambient::setting(name).map_or(Ok(usual), |text| text.parse::<u64>());
    let plan = Plan {
        seed: number("NETTAILOR_CHAOS_SEED", 4)?,
        coordinator: true,
        agents: true,
        until: Until::Time(Duration::from_secs(60 * number("NETTAILOR_CHAOS_MINUTES", 5)?)),
    };
    let (toll, end) = rage(plan).await?;
    assert!(toll.coordinator > 0 && toll.agents > 0, "{toll:?}");
    assert!(toll.over_trainers > 0 && !toll.at_work.is_empty(), "{toll:?}");
    check_end(&end).await
}
