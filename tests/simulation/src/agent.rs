//! Worker agents: what they run and what they still owe the coordinator, as `worker/src/ledger.rs` keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use nettailor_domain::ids::{Digest, Seat, WorkerId};
use nettailor_domain::session::{Address, Offer, Order, RANK_SILENCE};
use nettailor_domain::stage::{Artifact, Checkpoint, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass, Progress};
use nettailor_scheduler::event::SessionNumber;

use crate::Verdict;
use crate::chance::mix;
use crate::link::{Down, Up};
use crate::tasks;
use crate::world::{Happening, World};

/// Trainers that an agent runs at a time.
pub(crate) const SLOTS: usize = 2;
/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// A gang that is not complete for so long at its start gives up.
const GATHERING: Duration = Duration::from_secs(60);
/// An agent that is to leave does not wait any longer.
const LEAVING: Duration = Duration::from_secs(60);
/// Reports of the past that may be said again.
const PAST: usize = 8;

type Report = Result<Option<Box<StageResult>>, Failure>;

/// One agent.
pub(crate) struct Agent {
    pub(crate) name: WorkerId,
    /// Its process, by number.
    pub(crate) process: u32,
    pub(crate) session: Option<SessionNumber>,
    /// It reaches nobody until then.
    pub(crate) blocked: Duration,
    draining: bool,
    pub(crate) running: BTreeMap<Seat, Run>,
    /// Ends that were not acknowledged, and whether the session that is up now has said so.
    reports: BTreeMap<Seat, (Report, bool)>,
    past: Vec<(Seat, Report)>,
}

/// A trainer.
pub(crate) struct Run {
    order: Box<Order>,
    step: u32,
    steps: u32,
    /// It does nothing any more.
    pub(crate) hung: bool,
    /// It does not stop before.
    pub(crate) deaf: Duration,
    /// It breaks with its next step.
    pub(crate) breaks: Option<FailureClass>,
    /// Whether it was told where to meet.
    met: bool,
    /// Whether all ranks have been seen.
    gathered: bool,
    /// Since when one of them is missing.
    missing: Option<Duration>,
}

impl Agent {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            name: format!("w{index}").parse().expect("a name"),
            process: 1,
            session: None,
            blocked: Duration::ZERO,
            draining: false,
            running: BTreeMap::new(),
            reports: BTreeMap::new(),
            past: Vec::new(),
        }
    }

    fn offer(&self) -> Offer {
        Offer {
            slots: SLOTS as u32,
            threads_per_slot: 1,
            device: "cpu".into(),
            cached: Vec::new(),
            seats: self.running.keys().chain(self.reports.keys()).copied().collect(),
            version: "0.1.0".into(),
            draining: self.draining,
            labels: Default::default(),
        }
    }
}

impl World {
    /// An agent opens a session, in place of the one that it has.
    pub(crate) fn connect(&mut self, index: usize) {
        if self.coordinator.is_none() || self.agents[index].blocked > self.now {
            return self.connect_later(index, Duration::from_secs(1));
        }
        let offer = self.agents[index].offer();
        let session = self.open_link(index, offer);
        let agent = &mut self.agents[index];
        agent.session = Some(session);
        agent.reports.values_mut().for_each(|(_, said)| *said = false);
        let running: Vec<Seat> = agent.running.keys().copied().collect();
        for seat in running {
            self.announce(index, seat);
        }
        self.flush(index);
    }

    pub(crate) fn connect_later(&mut self, index: usize, after: Duration) {
        let process = self.agents[index].process;
        self.at(self.now + after, Happening::Connect(index, process));
    }

    /// An agent notices that its session is at its end.
    pub(crate) fn ended(&mut self, session: SessionNumber) {
        let Some(link) = self.links.get(&session) else {
            return;
        };
        let (index, process) = (link.agent, link.process);
        let agent = &mut self.agents[index];
        if agent.process == process && agent.session == Some(session) {
            agent.session = None;
            let pause = Duration::from_millis(250 + mix(&[self.seed, 3, session]) % 2000);
            self.connect_later(index, pause);
        }
    }

    /// An agent's process dies with all it runs and remembers, and another is started.
    pub(crate) fn die(&mut self, index: usize, down: Duration) {
        let agent = &mut self.agents[index];
        if let Some(session) = agent.session {
            self.say(session, Up::End);
        }
        let agent = &mut self.agents[index];
        let (process, past) = (agent.process + 1, std::mem::take(&mut agent.past));
        *agent = Agent {
            process,
            past,
            blocked: agent.blocked,
            ..Agent::new(index)
        };
        self.connect_later(index, down);
        self.at(self.now + down, Happening::Beat(index, process));
    }

    /// An agent takes nothing new and leaves once it is done.
    pub(crate) fn drain(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        if agent.draining {
            return;
        }
        agent.draining = true;
        let process = agent.process;
        if let Some(session) = agent.session {
            self.say(session, Up::Draining);
        }
        self.fire("a worker drained");
        self.at(self.now + LEAVING, Happening::Leave(index, process));
        self.leave_if_done(index);
    }

    fn leave_if_done(&mut self, index: usize) {
        let agent = &self.agents[index];
        if agent.draining && agent.running.is_empty() && agent.reports.is_empty() {
            self.die(index, Duration::from_secs(2));
        }
    }

    pub(crate) fn beat(&mut self, index: usize) {
        let agent = &self.agents[index];
        let process = agent.process;
        if let Some(session) = agent.session {
            self.say(session, Up::Heartbeat);
        }
        self.at(self.now + HEARTBEAT, Happening::Beat(index, process));
    }

    /// An agent is told something in its session.
    pub(crate) fn told(&mut self, index: usize, message: Down) -> Verdict {
        match message {
            Down::Assign(order) => return self.begin(index, order),
            Down::Meet(seat) => {
                if let Some(run) = self.agents[index].running.get_mut(&seat) {
                    run.met = true;
                }
            }
            Down::Stop(seat) => self.stop(index, seat),
            Down::Acknowledge(seat) => {
                let agent = &mut self.agents[index];
                self.promises.acknowledged(&self.twin, &agent.name, seat)?;
                let report = agent.reports.remove(&seat).map(|(report, _)| report);
                agent.past.extend(report.map(|report| (seat, report)));
                let forgotten = agent.past.len().saturating_sub(PAST);
                agent.past.drain(..forgotten);
                self.leave_if_done(index);
            }
            Down::Close => {
                if let Some(session) = self.agents[index].session {
                    self.ended(session);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, order: Box<Order>) -> Verdict {
        let (now, seat) = (self.now, order.seat);
        let agent = &mut self.agents[index];
        if agent.running.contains_key(&seat) || agent.reports.contains_key(&seat) {
            return Err(format!("P2: {seat} was handed to {} twice", agent.name));
        }
        if agent.draining {
            self.report(index, seat, Err(lost("this agent is leaving")));
            return Ok(());
        }
        let from = order.checkpoint.map(|artifact| self.blobs.get(&artifact.digest));
        let Some(step) = from.unwrap_or(Some(&0)).copied() else {
            self.promises.missed(&self.twin, &agent.name, seat)?;
            let message = "the checkpoint to go on from is gone".into();
            let class = FailureClass::Internal;
            self.report(index, seat, Err(Failure { class, message }));
            return Ok(());
        };
        if step > 0 {
            self.fire("an attempt went on from a checkpoint");
        }
        let run = Run {
            steps: 2 + mix(&[u64::from(seat.attempt.stage.0.as_bytes()[0])]) as u32 % 8,
            order,
            step,
            hung: false,
            deaf: Duration::ZERO,
            breaks: None,
            met: false,
            gathered: false,
            missing: None,
        };
        let agent = &mut self.agents[index];
        agent.running.insert(seat, run);
        if agent.running.len() > SLOTS {
            return Err(format!("P4: {} runs more ranks than it has slots", agent.name));
        }
        let process = agent.process;
        self.announce(index, seat);
        self.at(
            now + Duration::from_millis(300),
            Happening::Work(index, process, seat),
        );
        Ok(())
    }

    /// Rank 0 of a gang says where it waits.
    fn announce(&mut self, index: usize, seat: Seat) {
        let agent = &self.agents[index];
        let gang = agent
            .running
            .get(&seat)
            .is_some_and(|run| run.order.world_size > 1);
        if let Some(session) = agent.session
            && gang
            && seat.rank == 0
        {
            self.say(session, Up::Meeting(seat, meeting_of(seat)));
        }
    }

    fn stop(&mut self, index: usize, seat: Seat) {
        let now = self.now;
        let agent = &mut self.agents[index];
        if let Some(run) = agent.running.get(&seat) {
            if run.deaf > now {
                self.fire("a stop was not obeyed");
            } else {
                self.report(index, seat, Err(lost("it was told to stop")));
            }
        } else if let Some((_, said)) = agent.reports.get_mut(&seat) {
            *said = false;
            self.flush(index);
        } else {
            self.report(index, seat, Err(lost("this agent does not run it")));
        }
    }

    /// A trainer does its next step.
    pub(crate) fn work(&mut self, index: usize, seat: Seat) {
        let now = self.now;
        let Some(run) = self.agents[index].running.get(&seat) else {
            return;
        };
        let breaks = run.breaks;
        if run.hung {
            return;
        }
        if let Some(class) = breaks {
            self.fire("a trainer broke");
            let message = "it broke".into();
            return self.report(index, seat, Err(Failure { class, message }));
        }
        if tasks::is_unreadable(&run.order) {
            let (class, message) = (FailureClass::Input, "it cannot be read".into());
            return self.report(index, seat, Err(Failure { class, message }));
        }
        let attempt = seat.attempt;
        let complete = (0..run.order.world_size).all(|rank| self.is_there(Seat { attempt, rank }));
        let process = self.agents[index].process;
        self.queue_work(index, process, seat);
        let Some(run) = self.agents[index].running.get_mut(&seat) else {
            return;
        };
        if !complete {
            let since = *run.missing.get_or_insert(now);
            let patience = if run.gathered { RANK_SILENCE } else { GATHERING };
            if now - since > patience {
                self.fire("a gang fell apart");
                self.report(index, seat, Err(lost("a rank is gone")));
            }
            return;
        }
        run.missing = None;
        if run.order.world_size > 1 && !run.gathered {
            run.gathered = true;
            self.fire("a rank met its gang");
            return;
        }
        run.step += 1;
        let (step, steps) = (run.step, run.steps);
        if step >= steps {
            let result = (seat.rank == 0).then(|| Box::new(tasks::result(&run.order)));
            self.finished.insert(seat);
            return self.report(index, seat, Ok(result));
        }
        let leaves = seat.rank == 0 && run.order.spec.kind().trains();
        let Some(session) = self.agents[index].session else {
            return;
        };
        let progress = Progress {
            step: step.into(),
            ..Progress::default()
        };
        self.say(session, Up::Progress(seat, progress));
        if leaves {
            let digest = Digest::of(format!("{seat} {step}").as_bytes());
            self.blobs.insert(digest, step);
            let checkpoint = Checkpoint {
                artifact: Artifact { digest, bytes: 1 },
                epoch: step,
                step: step.into(),
            };
            self.say(session, Up::Checkpointed(seat, checkpoint));
            self.say(session, Up::Log(seat));
        }
    }

    fn queue_work(&mut self, index: usize, process: u32, seat: Seat) {
        let pause = 300 + mix(&[self.seed, 4, self.now.as_nanos() as u64]) % 900;
        let at = self.now + Duration::from_millis(pause);
        self.at(at, Happening::Work(index, process, seat));
    }

    /// Whether a rank has met its gang, or done its part.
    fn is_there(&self, seat: Seat) -> bool {
        let met = |agent: &Agent| {
            agent
                .running
                .get(&seat)
                .is_some_and(|run| run.met || seat.rank == 0)
        };
        self.finished.contains(&seat) || self.agents.iter().any(met)
    }

    fn report(&mut self, index: usize, seat: Seat, report: Report) {
        let agent = &mut self.agents[index];
        agent.running.remove(&seat);
        agent.reports.insert(seat, (report, false));
        self.flush(index);
    }

    /// Says what the session that is up has not said yet.
    fn flush(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        let Some(session) = agent.session else { return };
        let mut messages = Vec::new();
        for (seat, (report, said)) in &mut agent.reports {
            if !std::mem::replace(said, true) {
                messages.push(message_of(*seat, report.clone()));
            }
        }
        for message in messages {
            self.say(session, message);
        }
    }

    /// An agent says again what it has said in the past, in the session that is up, of whatever process.
    pub(crate) fn repeat(&mut self, index: usize, which: u32) {
        let agent = &self.agents[index];
        if let (Some(session), false) = (agent.session, agent.past.is_empty()) {
            let (seat, report) = agent.past[which as usize % agent.past.len()].clone();
            self.fire("a report was repeated");
            self.say(session, Up::Progress(seat, Progress::default()));
            self.say(session, message_of(seat, report));
        }
    }

    /// One of the trainers that run, with what runs it.
    pub(crate) fn some_run(&mut self, which: u32) -> Option<&mut Run> {
        let runs: Vec<&mut Run> = self
            .agents
            .iter_mut()
            .flat_map(|agent| agent.running.values_mut())
            .collect();
        let count = runs.len();
        runs.into_iter().nth(which as usize % count.max(1))
    }
}

fn message_of(seat: Seat, report: Report) -> Up {
    match report {
        Ok(result) => Up::Finished(seat, result),
        Err(failure) => Up::Failed(seat, failure),
    }
}

fn lost(message: &str) -> Failure {
    Failure {
        class: FailureClass::Lost,
        message: message.into(),
    }
}

/// Where rank 0 of this seat's attempt waits.
fn meeting_of(seat: Seat) -> Address {
    let Seat { attempt, .. } = seat;
    let host = format!("{}-{}", attempt.stage.0.short(), attempt.number);
    format!("{host}:1").parse().expect("an address")
}
