//! A cluster in virtual time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use nettailor_domain::ids::{Digest, Seat};
use nettailor_domain::trainer::FailureClass;
use nettailor_scheduler::event::SessionNumber;

use crate::Verdict;
use crate::agent::Agent;
use crate::chance::mix;
use crate::coordinator::Coordinator;
use crate::link::{Down, Link, Up};
use crate::plan::{Act, Plan, Step};
use crate::promise::Promises;
use crate::store::{Fault, Twin};
use crate::user::Jobs;

/// Workers of the cluster. The widest gang fits on all of them together.
const AGENTS: usize = 3;
/// What the coordinator's driver counts as listened of a time in which it stood still.
const LISTENED: Duration = Duration::from_millis(250);
/// Longer than anything takes once all is calm.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// How often each kind of fault has really happened.
pub type Fired = BTreeMap<&'static str, u64>;

/// What came of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which promise was broken, and how.
    pub verdict: Result<(), String>,
    /// What happened in it.
    pub fired: Fired,
    /// Follows from everything that happened: equal for equal histories.
    pub trace: u64,
    /// Requests that were applied.
    pub requests: u64,
}

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// A trainer of an agent's process does its next step.
    Work(usize, u32, Seat),
    /// An agent's process sends a heartbeat.
    Beat(usize, u32),
    /// It opens a session.
    Connect(usize, u32),
    /// It waits no longer for what it runs, and goes.
    Leave(usize, u32),
    /// The agent notices that a session is at its end.
    Ended(SessionNumber),
    /// The coordinator does.
    Broken(SessionNumber),
    /// Something that an agent said arrives.
    Up(SessionNumber, Up),
    /// Something that an agent was told arrives.
    Down(SessionNumber, Down),
    /// A lookup is answered.
    Looked(SessionNumber, u64),
    /// A commit of a process of the coordinator is through.
    Committed(u32),
    /// A process of the coordinator starts.
    Start(u32),
}

/// The cluster.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) latency: u32,
    pub(crate) faults: bool,
    pub(crate) hangs: bool,
    pub(crate) now: Duration,
    /// What will happen, by time and in the order in which it was decided.
    queue: BTreeMap<(Duration, u64), Happening>,
    queued: u64,
    pub(crate) coordinator: Option<Coordinator>,
    /// The coordinator's processes so far.
    pub(crate) process: u32,
    pub(crate) twin: Twin,
    /// Commits take so long,
    pub(crate) slow: Duration,
    /// until then.
    pub(crate) slow_until: Duration,
    /// The coordinator does nothing before.
    stalled: Duration,
    pub(crate) links: BTreeMap<SessionNumber, Link>,
    pub(crate) sessions: SessionNumber,
    pub(crate) agents: Vec<Agent>,
    /// Ranks that have done their part.
    pub(crate) finished: BTreeSet<Seat>,
    /// Checkpoints in the artifact store, with the steps that are behind them.
    pub(crate) blobs: HashMap<Digest, u32>,
    pub(crate) lookups: u64,
    /// The artifact store does not answer before.
    pub(crate) store_away: Duration,
    /// So many checkpoints will not be found.
    pub(crate) unfounded: u32,
    pub(crate) jobs: Jobs,
    /// Workers that users have taken out of use at some time.
    pub(crate) cordoned: BTreeSet<usize>,
    pub(crate) promises: Promises,
    fired: Fired,
    trace: u64,
    requests: u64,
}

/// Lives through a plan, and through the calm after it.
pub fn live(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    let verdict = world.live(&plan.steps);
    let time = world.now.as_secs_f64();
    Outcome {
        verdict: verdict.map_err(|error| format!("{error} (after {time:.3} s)")),
        fired: world.fired,
        trace: world.trace,
        requests: world.requests,
    }
}

impl World {
    fn new(plan: &Plan) -> Self {
        Self {
            seed: plan.seed,
            latency: plan.latency.max(1),
            faults: plan.faults,
            hangs: plan.hangs,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            coordinator: None,
            process: 1,
            twin: Twin::default(),
            slow: Duration::ZERO,
            slow_until: Duration::ZERO,
            stalled: Duration::ZERO,
            links: BTreeMap::new(),
            sessions: 0,
            agents: (0..AGENTS).map(Agent::new).collect(),
            finished: BTreeSet::new(),
            blobs: HashMap::new(),
            lookups: 0,
            store_away: Duration::ZERO,
            unfounded: 0,
            jobs: Jobs::new(),
            cordoned: BTreeSet::new(),
            promises: Promises::new(plan.hangs),
            fired: Fired::new(),
            trace: 0,
            requests: 0,
        }
    }

    fn live(&mut self, steps: &[Step]) -> Verdict {
        self.start()?;
        for index in 0..AGENTS {
            self.connect_later(index, Duration::from_millis(index as u64));
            self.at(Duration::from_millis(index as u64), Happening::Beat(index, 1));
        }
        for step in steps {
            self.act(*step)?;
        }
        self.calm_down()?;
        self.look_back()?;
        // All of it is kept.
        self.advance(self.now + Duration::from_secs(5))?;
        self.kill(true, 0);
        self.advance(self.now + Duration::from_secs(3))?;
        self.look_back()
    }

    /// The coordinator stands still until then. Of that it listens to a moment.
    fn stall(&mut self, until: Duration) {
        let more = until.saturating_sub(self.stalled.max(self.now));
        self.stalled = self.stalled.max(until);
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.missed += more.saturating_sub(LISTENED);
        }
    }

    /// It does not stand still any more.
    pub(crate) fn wake_up(&mut self) {
        self.stalled = self.stalled.min(self.now);
    }

    /// Something will happen at this time.
    pub(crate) fn at(&mut self, at: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), happening);
    }

    /// A fault has happened.
    pub(crate) fn fire(&mut self, fault: &'static str) {
        *self.fired.entry(fault).or_default() += 1;
    }

    /// A request was applied, and this came of it.
    pub(crate) fn trace(&mut self, of: &[u64]) {
        self.requests += 1;
        self.trace = mix(&[self.trace, self.now.as_nanos() as u64, mix(of)]);
    }

    /// Lets everything happen up to a time.
    fn advance(&mut self, until: Duration) -> Verdict {
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wakeup = self.coordinator.as_ref().map(Coordinator::wakeup);
            let wakeup = wakeup.map(|wakeup| wakeup.max(self.stalled));
            let at = next.into_iter().chain(wakeup).min().unwrap_or(until);
            if at > until {
                self.now = until;
                return Ok(());
            }
            self.now = self.now.max(at);
            if wakeup.is_some_and(|wakeup| wakeup <= at) {
                self.tick()?;
            } else if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening)?;
            } else {
                return Ok(());
            }
        }
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        let waits = matches!(
            happening,
            Happening::Up(..) | Happening::Broken(_) | Happening::Looked(..) | Happening::Committed(_)
        );
        if waits && self.now <= self.stalled {
            self.fire("a message waited for a coordinator that stalled");
            // In the order in which they came, after all that come until then.
            self.at(self.stalled + Duration::from_nanos(1), happening);
            return Ok(());
        }
        let lives = |index: usize, process: u32| self.agents[index].process == process;
        match happening {
            Happening::Work(index, process, seat) if lives(index, process) => self.work(index, seat),
            Happening::Beat(index, process) if lives(index, process) => self.beat(index),
            Happening::Connect(index, process) if lives(index, process) => {
                if self.agents[index].session.is_none() {
                    self.connect(index);
                }
            }
            Happening::Leave(index, process) if lives(index, process) => {
                self.die(index, Duration::from_secs(2));
            }
            Happening::Ended(session) => self.ended(session),
            Happening::Broken(session) => return self.broken(session),
            Happening::Up(session, message) => return self.arrives(session, message),
            Happening::Down(session, message) => return self.reaches(session, message),
            Happening::Looked(session, id) => return self.looked_up(session, id),
            Happening::Committed(process) if process == self.process => return self.committed(),
            Happening::Start(process) if process == self.process => return self.start(),
            Happening::Work(..)
            | Happening::Beat(..)
            | Happening::Connect(..)
            | Happening::Leave(..)
            | Happening::Committed(_)
            | Happening::Start(_) => {}
        }
        Ok(())
    }

    fn act(&mut self, step: Step) -> Verdict {
        let Step { act, of, how } = step;
        let index = of as usize % AGENTS;
        let time = Duration::from_millis(how.into());
        let now = self.now;
        let session = self.agents[index].session;
        match act {
            Act::Pass => return self.advance(now + time),
            Act::Submit => return self.submit(of, how),
            Act::Cancel => return self.cancel(of),
            Act::Pause => return self.pause(of, 4 * time),
            Act::Resume => return self.resume(of),
            Act::Update => return self.update(of, how),
            Act::Retry => return self.retry(of, how),
            Act::Cordon => return self.cordon(index, how % 2 == 0),
            Act::Uncordon => return self.uncordon(index),
            Act::Fail => {
                let class = [FailureClass::Internal, FailureClass::Resources][how as usize % 2];
                if let Some(run) = self.some_run(of) {
                    run.breaks = Some(class);
                }
            }
            Act::Hang => {
                if let Some(run) = self.some_run(of) {
                    run.hung = true;
                    self.fire("a trainer hung");
                }
            }
            Act::Deafen => {
                if let Some(run) = self.some_run(of) {
                    run.deaf = now + 4 * time;
                }
            }
            Act::Crash => {
                self.fire("an agent died");
                self.die(index, time);
            }
            Act::Drain => self.drain(index),
            Act::Break => {
                if let Some(session) = session {
                    self.break_link(session, time / 8, time);
                }
            }
            Act::Mute => {
                if let Some(session) = session {
                    self.mute_link(session, how % 3 != 1, how % 3 != 2);
                    self.agents[index].blocked = now + time;
                }
            }
            Act::Overlap => {
                if let Some(session) = session {
                    self.at(now + 2 * time, Happening::Broken(session));
                    self.connect(index);
                }
            }
            Act::Lag => {
                if let Some(link) = session.and_then(|session| self.links.get_mut(&session)) {
                    let lane = if how % 2 == 0 {
                        &mut link.up
                    } else {
                        &mut link.down
                    };
                    lane.hold_up(now + time);
                }
            }
            Act::Stall => self.stall(now + 2 * time),
            Act::Repeat => self.repeat(index, how),
            Act::Slow => (self.slow, self.slow_until) = (time / 4, now + 2 * time),
            Act::FailBefore => self.twin.set_fault(Some(Fault::Before)),
            Act::FailAfter => self.twin.set_fault(Some(Fault::After)),
            Act::FailBetween => self.twin.set_fault(Some(Fault::Between)),
            Act::Kill => self.kill(false, how),
            Act::PowerLoss => self.kill(true, how),
            Act::Away => self.store_away = now + time,
            Act::Unfounded => self.unfounded += 1 + how % 3,
        }
        Ok(())
    }

    /// Nothing goes wrong any more: everything must come to its end.
    fn calm_down(&mut self) -> Verdict {
        self.twin.set_fault(None);
        (self.slow_until, self.store_away, self.unfounded) = (self.now, self.now, 0);
        for agent in &mut self.agents {
            agent.blocked = self.now;
        }
        let end = self.now + PATIENCE;
        while self.now < end && !self.is_over() {
            for index in self.cordoned.clone() {
                self.uncordon(index)?;
            }
            self.advance(self.now + Duration::from_secs(2))?;
        }
        Ok(())
    }
}
