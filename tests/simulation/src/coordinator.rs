//! The coordinator's process: the engine and the committer, as `coordinator/src/driver.rs` runs them in two threads. While a
//! commit takes its time, requests go on being applied, and their batches pile up.

use std::time::Duration;

use nettailor_domain::ids::JobId;
use nettailor_engine::{Answer, Applied, Batch, Committer, Engine, Refused, Request, State, Store};
use nettailor_scheduler::Config;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::Now;
use nettailor_scheduler::record::{JobState, JobStatus};

use crate::Verdict;
use crate::link::Down;
use crate::store::Fault;
use crate::world::{Happening, World};

/// How long a commit takes where nothing slows it down.
const FLUSH: Duration = Duration::from_millis(4);

/// One process.
pub(crate) struct Coordinator {
    pub(crate) engine: Engine,
    committer: Committer,
    /// Made and not taken by the committer.
    waiting: Vec<Batch<After>>,
    /// What is being committed.
    writing: Option<Vec<Batch<After>>>,
    /// When it started, and what the clock showed then.
    /// What was not listened to, as it stood still.
    pub(crate) missed: Duration,
    started: Duration,
    clock: Duration,
}

/// What waits for a commit.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is made, waits for one commit and is consumed"
)]
pub(crate) enum After {
    Effect(Effect),
    /// Watchers are told that a job stands there.
    Tell(JobStatus),
    Answer(Result<Answer, Refused>),
    /// A user is told that this job was cancelled.
    Cancelled(JobId),
}

/// The scheduler's settings.
fn config() -> Config {
    Config {
        // What is left alone is tried again soon: hours in which nothing happens show nothing.
        set_aside_first: Duration::from_secs(10),
        set_aside_longest: Duration::from_secs(60),
        break_first: Duration::from_secs(20),
        break_longest: Duration::from_secs(60),
        // Nobody is there to take a worker back into use.
        stops: u32::MAX,
        ..Config::default()
    }
}

/// The time of what happens now.
fn now(elapsed: Duration, missed: Duration, at: Duration) -> Now {
    Now {
        elapsed,
        listened: elapsed.saturating_sub(missed),
        wall_ms: 1_700_000_000_000 + at.as_millis() as u64,
    }
}

/// What users do, in words.
fn meaning(request: &Request) -> Option<&'static str> {
    Some(match request {
        Request::Pause { .. } => "a job was paused",
        Request::Resume { .. } => "a pause was ended",
        Request::Update { .. } => "a job got another priority",
        Request::Retry { .. } => "a job was retried",
        Request::Cordon { drain: false, .. } => "a worker was cordoned",
        Request::Cordon { drain: true, .. } => "a worker was drained by a user",
        Request::Uncordon { .. } => "a worker was taken back into use",
        _ => return None,
    })
}

impl Coordinator {
    fn now(&self, at: Duration) -> Now {
        now(self.clock + (at - self.started), self.missed, at)
    }

    /// When it is to be woken next, if nothing holds it up.
    pub(crate) fn wakeup(&self) -> Duration {
        self.started + self.engine.next_wakeup().saturating_sub(self.clock)
    }
}

impl World {
    /// A coordinator starts on what was kept.
    pub(crate) fn start(&mut self) -> Verdict {
        let rows = self.twin.load().map_err(|error| format!("P10: {error}"))?;
        let clock = State::elapsed(&rows);
        let kept = rows.clone();
        let state = State::restore(config(), rows, now(clock, Duration::ZERO, self.now));
        let state = state.map_err(|error| format!("P10: what was kept cannot be restored: {error}"))?;
        self.promises.restored(&state, kept)?;
        self.coordinator = Some(Coordinator {
            engine: Engine::new(state),
            committer: Committer::new(Box::new(self.twin.clone())),
            waiting: Vec::new(),
            writing: None,
            started: self.now,
            missed: Duration::ZERO,
            clock,
        });
        self.request(Request::Tick)
    }

    /// A request comes in. Where there is no coordinator it is lost.
    pub(crate) fn request(&mut self, request: Request) -> Verdict {
        let at = self.now;
        let Some(coordinator) = &mut self.coordinator else {
            return Ok(());
        };
        let now = coordinator.now(at);
        let before = self
            .promises
            .before(&request, &coordinator.engine.state().scheduler);
        let (cancels, means) = (matches!(request, Request::Cancel { .. }), meaning(&request));
        let applied = coordinator.engine.apply(request, now);
        let state = coordinator.engine.state();
        self.promises.after(&before, &applied, state)?;
        state
            .scheduler
            .check()
            .map_err(|error| format!("check: {error}"))?;
        let Applied {
            changes,
            effects,
            answer,
        } = applied;
        let trace = [changes.len() as u64, effects.len() as u64];
        let mut after = Vec::with_capacity(effects.len() + 1);
        for effect in effects {
            let told = match &effect {
                Effect::JobChanged(sequence) => state.scheduler.job_numbered(*sequence),
                _ => None,
            };
            after.push(match told {
                Some((_, status)) => After::Tell(status.clone()),
                None => After::Effect(effect),
            });
        }
        let means = means.filter(|_| answer.is_ok());
        after.push(match answer {
            Ok(Answer::Job(job)) if cancels => After::Cancelled(job),
            answer => After::Answer(answer),
        });
        coordinator.waiting.push(Batch { changes, after });
        self.trace(&trace);
        self.write();
        if let Some(means) = means {
            self.fire(means);
        }
        Ok(())
    }

    /// Time passed that the coordinator waits for.
    pub(crate) fn tick(&mut self) -> Verdict {
        self.request(Request::Tick)?;
        let late = |coordinator: &Coordinator| coordinator.wakeup() <= self.now;
        if self.coordinator.as_ref().is_some_and(late) {
            return Err("P3: a timer that was due is still armed".into());
        }
        Ok(())
    }

    /// Begins to commit what waits, all of it as one, unless a commit is on its way.
    fn write(&mut self) {
        let Some(coordinator) = &mut self.coordinator else {
            return;
        };
        if coordinator.writing.is_some() || coordinator.waiting.is_empty() {
            return;
        }
        let batches = std::mem::take(&mut coordinator.waiting);
        let piled_up = batches.len() > 1;
        coordinator.writing = Some(batches);
        let slow = self.now < self.slow_until;
        if piled_up && slow {
            self.fire("batches piled up behind a slow commit");
        }
        let takes = if slow { self.slow } else { FLUSH };
        self.at(self.now + takes, Happening::Committed(self.process));
    }

    /// A commit is through: what waited for it happens.
    pub(crate) fn committed(&mut self) -> Verdict {
        let Some(coordinator) = &mut self.coordinator else {
            return Ok(());
        };
        let Some(batches) = coordinator.writing.take() else {
            return Ok(());
        };
        let fault = self.twin.fault();
        let kept = coordinator.committer.commit(batches);
        match (kept, fault) {
            (Ok(after), _) => {
                for after in after {
                    self.promises.released(&self.twin, &after, &self.blobs)?;
                    self.carry_out(after);
                }
                self.write();
            }
            (Err(_), fault) => {
                self.fire(match fault {
                    Some(Fault::After) => "a commit failed that was kept",
                    Some(Fault::Between) => "a commit failed that was not flushed",
                    Some(Fault::Before) | None => "a commit failed that was not kept",
                });
                self.stop_coordinator(false);
            }
        }
        Ok(())
    }

    /// The coordinator dies. Of what it was committing, some may be there.
    pub(crate) fn kill(&mut self, power: bool, how: u32) {
        let Some(coordinator) = &mut self.coordinator else {
            return;
        };
        let fault = [Fault::Before, Fault::Between, Fault::After][how as usize % 3];
        if let Some(batches) = coordinator.writing.take() {
            self.twin.set_fault(Some(fault));
            // Nothing of it is said: it is as if the process had died at that moment.
            let _ = coordinator.committer.commit(batches);
            self.twin.set_fault(None);
            self.fire("the coordinator died during a commit");
        }
        self.fire(if power {
            "power was lost"
        } else {
            "the coordinator died"
        });
        self.stop_coordinator(power);
    }

    /// The process is gone: streams end, and another is started.
    fn stop_coordinator(&mut self, power: bool) {
        if self.twin.crash(power) {
            self.fire("power loss took a commit back");
        }
        self.twin.set_fault(None);
        self.coordinator = None;
        self.wake_up();
        self.process += 1;
        // What it has sent may still arrive.
        let open = self.agents.iter().filter_map(|agent| agent.session);
        for session in open.collect::<Vec<_>>() {
            let noticed = Duration::from_millis(if power { 20_000 } else { 100 } + session % 7 * 300);
            self.at(self.now + noticed, Happening::Ended(session));
        }
        self.at(self.now + Duration::from_secs(2), Happening::Start(self.process));
    }

    fn carry_out(&mut self, after: After) {
        let (session, message) = match after {
            After::Effect(effect) => match effect {
                Effect::Assign { session, order, .. } => (session, Down::Assign(order)),
                Effect::Meet { session, seat, .. } => (session, Down::Meet(seat)),
                Effect::Stop { session, seat, .. } => (session, Down::Stop(seat)),
                Effect::Acknowledge { session, seat, .. } => (session, Down::Acknowledge(seat)),
                Effect::CloseSession { session, .. } => (session, Down::Close),
                Effect::Discard(artifact) => {
                    self.blobs.remove(&artifact.digest);
                    return;
                }
                Effect::StageChanged(_) | Effect::JobChanged(_) | Effect::Published { .. } => return,
            },
            After::Tell(status) => {
                if matches!(status.state, JobState::Cancelled { .. }) {
                    self.fire("a job was cancelled");
                }
                return;
            }
            After::Answer(answer) => return self.answered(answer),
            After::Cancelled(_) => return,
        };
        self.tell(session, message);
    }
}
