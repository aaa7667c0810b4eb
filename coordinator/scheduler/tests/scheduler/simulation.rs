//! Simulated workers that run, fail, crash, fall silent, repeat themselves and come back, under a coordinator that
//! restarts; in virtual time, with every invariant checked after every event.

use std::cell::Cell;
use std::collections::BTreeMap;

use nettailor_domain::ids::{Digest, Seat, WorkerId};
use nettailor_domain::session::{Address, Offer, Order};
use nettailor_domain::stage::{Artifact, Checkpoint, StageKind, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, SessionNumber, Submission};
use nettailor_scheduler::record::{Record, StageState};
use nettailor_scheduler::testing::{failure, infeasible, result, searching, sourced, task, wide};
use nettailor_scheduler::view::{Counters, JobPhase};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::history::{Op, op};
use crate::world::{World, millis, seconds, worker};

/// A worker agent, as far as the scheduler can tell.
#[derive(Default)]
struct Agent {
    session: Option<SessionNumber>,
    running: BTreeMap<Seat, Order>,
    /// Ends that were not acknowledged.
    reports: BTreeMap<Seat, Outcome>,
    /// Reports of the past, to be sent again by mistake.
    history: Vec<(Seat, Outcome)>,
}

type Outcome = Result<Option<Box<StageResult>>, Failure>;

struct Simulation {
    world: World,
    agents: [Agent; 3],
    /// Effects that were not carried out yet.
    outbox: Vec<Effect>,
    sessions: SessionNumber,
    jobs: u32,
    /// Ranks that were told where to meet.
    met: u32,
    /// Attempts that went on from a checkpoint.
    resumed: u32,
}

const SLOTS: usize = 2;

impl Simulation {
    fn new() -> Self {
        let agents = [Agent::default(), Agent::default(), Agent::default()];
        Self {
            world: World::new(),
            agents,
            outbox: Vec::new(),
            sessions: 0,
            jobs: 0,
            met: 0,
            resumed: 0,
        }
    }

    fn apply(&mut self, event: Event) {
        let effects = self.world.apply(event);
        self.outbox.extend(effects);
    }

    /// Carries out what the scheduler asked for. What goes to a session that is gone is lost.
    fn deliver(&mut self) {
        for effect in std::mem::take(&mut self.outbox) {
            match effect {
                Effect::Assign {
                    worker,
                    session,
                    order,
                } => {
                    self.resumed += u32::from(order.checkpoint.is_some() && order.seat.rank == 0);
                    if let Some(agent) = self.listening(worker.as_str(), session) {
                        let twice = agent.running.insert(order.seat, *order);
                        assert!(twice.is_none(), "a rank was assigned twice");
                        assert!(agent.running.len() <= SLOTS, "more ranks than slots");
                    }
                }
                Effect::Meet {
                    worker,
                    session,
                    seat,
                    address,
                } => {
                    let own = meeting_of(seat) == address && seat.rank > 0;
                    assert!(own, "{seat} was called to {address}");
                    self.met += u32::from(self.listening(worker.as_str(), session).is_some());
                }
                Effect::Stop {
                    worker,
                    session,
                    seat,
                    ..
                } => {
                    if let Some(agent) = self.listening(worker.as_str(), session)
                        && agent.running.remove(&seat).is_some()
                    {
                        agent.reports.insert(seat, Err(failure(FailureClass::Internal)));
                    }
                }
                Effect::Acknowledge {
                    worker,
                    session,
                    seat,
                } => {
                    if let Some(agent) = self.listening(worker.as_str(), session) {
                        assert!(
                            !agent.running.contains_key(&seat),
                            "a running rank was acknowledged"
                        );
                        let report = agent.reports.remove(&seat);
                        agent.history.extend(report.map(|report| (seat, report)));
                    }
                }
                Effect::CloseSession { worker, session, .. } => {
                    if let Some(agent) = self.listening(worker.as_str(), session) {
                        agent.session = None;
                    }
                }
                Effect::JobChanged(_)
                | Effect::StageChanged(_)
                | Effect::Discard(_)
                | Effect::Published { .. } => {}
            }
        }
    }

    fn listening(&mut self, name: &str, session: SessionNumber) -> Option<&mut Agent> {
        let index: usize = name[1..].parse().expect("a number");
        Some(&mut self.agents[index]).filter(|agent| agent.session == Some(session))
    }

    fn act(&mut self, op: Op) {
        if let Op::Restart = op {
            self.outbox.clear();
            self.world.restart();
            self.agents.iter_mut().for_each(|agent| agent.session = None);
            return;
        }
        self.deliver();
        match op {
            Op::Submit { variant } => {
                self.jobs += 1;
                let submission = variation(variant, &format!("j{}", self.jobs));
                self.apply(Event::Submit(submission.into()));
            }
            Op::Cancel { job } if self.jobs > 0 => {
                let job = format!("j{}", 1 + u32::from(job) % self.jobs)
                    .parse()
                    .expect("an id");
                self.apply(Event::Cancel {
                    job,
                    reason: String::new(),
                });
            }
            Op::Connect { agent } => self.connect(agent),
            Op::Break { agent } => self.with_session(agent, |worker, session, agent| {
                agent.session = None;
                Some(Event::WorkerDisconnected { worker, session })
            }),
            Op::Vanish { agent } => self.agents[usize::from(agent)].session = None,
            Op::Crash { agent } => {
                let agent = &mut self.agents[usize::from(agent)];
                agent.session = None;
                agent.running.clear();
                agent.reports.clear();
            }
            Op::Drain { agent } => self.with_session(agent, |worker, session, _| {
                Some(Event::WorkerDraining { worker, session })
            }),
            Op::Heartbeat { agent } => {
                let running: Vec<_> = self.agents[usize::from(agent)].running.keys().copied().collect();
                for seat in running {
                    self.speak_of(agent, seat);
                }
                self.with_session(agent, |worker, session, _| {
                    Some(Event::Heartbeat { worker, session })
                });
            }
            Op::End { agent, which, how } => self.end(agent, which, how),
            Op::Report { agent, which } => self.with_session(agent, |worker, session, agent| {
                let (seat, outcome) = pick(agent.reports.iter(), which)?;
                Some(report(worker, session, *seat, outcome.clone()))
            }),
            Op::Repeat { agent, which } => {
                let past = pick(self.agents[usize::from(agent)].history.iter(), which).cloned();
                if let Some((seat, outcome)) = past {
                    self.speak_of(agent, seat);
                    self.with_session(agent, |worker, session, _| {
                        Some(report(worker, session, seat, outcome))
                    });
                }
            }
            // Whatever was said meanwhile is heard before any timer is looked at.
            Op::Stall { seconds: number } => self.world.stall(seconds(number.into())),
            Op::Pass { millis: number } => {
                let effects = self.world.pass(millis(number));
                self.outbox.extend(effects);
            }
            Op::Cancel { .. } | Op::Restart => {}
        }
    }

    fn connect(&mut self, index: u8) {
        let agent = &mut self.agents[usize::from(index)];
        self.sessions += 1;
        agent.session = Some(self.sessions);
        let offer = Offer {
            slots: SLOTS as u32,
            threads_per_slot: 1,
            device: "cpu".into(),
            cached: vec![],
            seats: agent
                .running
                .keys()
                .chain(agent.reports.keys())
                .copied()
                .collect(),
            version: "0.1.0".into(),
            draining: false,
            labels: Default::default(),
        };
        let session = self.sessions;
        self.apply(Event::WorkerConnected {
            worker: worker(&format!("w{index}")),
            session,
            offer,
        });
    }

    fn with_session(
        &mut self,
        index: u8,
        event: impl FnOnce(WorkerId, SessionNumber, &mut Agent) -> Option<Event>,
    ) {
        let agent = &mut self.agents[usize::from(index)];
        let Some(session) = agent.session else { return };
        if let Some(event) = event(worker(&format!("w{index}")), session, agent) {
            self.apply(event);
        }
    }

    /// A rank is heard of: of rank 0 that it waits, and that it left a checkpoint.
    fn speak_of(&mut self, index: u8, seat: Seat) {
        self.with_session(index, |worker, session, _| {
            Some(Event::SeatRuns {
                worker,
                session,
                seat,
            })
        });
        if seat.rank > 0 {
            return;
        }
        self.with_session(index, |worker, session, _| {
            Some(Event::Meeting {
                worker,
                session,
                seat,
                address: meeting_of(seat),
            })
        });
        let epoch = (self.world.now.elapsed.as_secs() / 4) as u32;
        let artifact = Artifact {
            digest: Digest::of(seat.to_string().as_bytes()),
            bytes: epoch.into(),
        };
        self.with_session(index, |worker, session, _| {
            Some(Event::Checkpointed {
                worker,
                session,
                seat,
                checkpoint: Checkpoint {
                    artifact,
                    epoch,
                    step: epoch.into(),
                },
            })
        });
    }

    fn end(&mut self, index: u8, which: u8, how: u8) {
        let agent = &mut self.agents[usize::from(index)];
        let Some((seat, order)) = pick(agent.running.iter(), which) else {
            return;
        };
        let seat = *seat;
        let outcome = match how {
            0..8 => Err(failure(FailureClass::Internal)),
            8..16 => Err(failure(FailureClass::Resources)),
            16..24 => Err(failure(FailureClass::Lost)),
            24..28 => Err(failure(FailureClass::Input)),
            _ if seat.rank > 0 => Ok(None),
            28..32 => Ok(Some(Box::new(infeasible(2)))),
            _ => Ok(Some(Box::new(natural(order)))),
        };
        agent.running.remove(&seat);
        agent.reports.insert(seat, outcome);
    }

    /// Everybody comes back and behaves: every job must end.
    fn calm_down(&mut self) {
        self.deliver();
        (0..3).for_each(|index| self.connect(index));
        for _ in 0..2000 {
            self.deliver();
            for index in 0..3u8 {
                for _ in 0..SLOTS + 2 {
                    self.act(Op::End {
                        agent: index,
                        which: 0,
                        how: u8::MAX,
                    });
                    self.act(Op::Report {
                        agent: index,
                        which: 0,
                    });
                }
                self.act(Op::Heartbeat { agent: index });
            }
            self.act(Op::Pass { millis: 1000 });
            let live = self.world.scheduler.jobs().any(|job| !job.phase.is_final());
            let busy = self.world.scheduler.workers().any(|worker| worker.slots_used > 0);
            if !live && !busy {
                return;
            }
        }
        let stuck: Vec<_> = self
            .world
            .scheduler
            .jobs()
            .filter(|job| !job.phase.is_final())
            .collect();
        panic!("not everything ended: {stuck:?}");
    }
}

/// One of eight tasks that overlap in different ways, half of them over a backbone that is made first, some with a search, half
/// of them for gangs; the last have no feasible candidate. All fit on the three workers.
fn variation(variant: u8, job: &str) -> Submission {
    let mut submission = task(
        job,
        if variant.is_multiple_of(2) {
            "digits"
        } else {
            "numbers"
        },
    );
    match variant / 2 {
        0 => {}
        1 => submission.task.student.gamma1 = 0.7,
        2 => submission.task.candidates.k = Some(vec![2, 4, 6]),
        _ => submission.task.candidates.k = Some(vec![8]),
    }
    let workers = ["1", "2", "1", "3..6", "1..4", "1", "1", "2..3"][usize::from(variant)];
    let submission = wide(submission, workers);
    match variant {
        1 | 3 | 7 => sourced(submission, 0),
        4 => searching(submission),
        5 => searching(sourced(submission, 0)),
        _ => submission,
    }
}

fn natural(order: &Order) -> StageResult {
    match order.spec.kind() {
        StageKind::Candidate(8) => infeasible(8),
        _ => result(order),
    }
}

/// Where rank 0 of this seat's attempt waits.
fn meeting_of(seat: Seat) -> Address {
    let attempt = seat.attempt.to_string().replace('#', "-");
    format!("{attempt}:1").parse().expect("an address")
}

fn report(worker: WorkerId, session: SessionNumber, seat: Seat, outcome: Outcome) -> Event {
    match outcome {
        Ok(result) => Event::SeatFinished {
            worker,
            session,
            seat,
            result,
        },
        Err(failure) => Event::SeatFailed {
            worker,
            session,
            seat,
            failure,
        },
    }
}

fn pick<T>(items: impl ExactSizeIterator<Item = T>, which: u8) -> Option<T> {
    let length = items.len();
    let mut items = items;
    if length == 0 {
        None
    } else {
        items.nth(usize::from(which) % length)
    }
}

/// Runs a history to its end. Returns what was dropped and went wrong in it, how many ranks were called to meet and how many
/// attempts went on from a checkpoint.
fn live_through(ops: Vec<Op>) -> Result<(Counters, u32, u32), TestCaseError> {
    let mut simulation = Simulation::new();
    let mut total = Counters::default();
    for op in ops {
        if matches!(op, Op::Restart) {
            total = sum(total, simulation.world.scheduler.counters());
        }
        simulation.act(op);
    }
    simulation.calm_down();
    // That no finished stage is written again is checked with every record (`World::try_apply`).
    for record in simulation.world.kept.values() {
        if let Record::Stage(stage) = record {
            prop_assert!(
                !matches!(stage.state, StageState::Running { .. }),
                "{stage:?} runs for ever"
            );
        }
    }
    for job in simulation.world.scheduler.jobs() {
        prop_assert!(!job.reason.is_empty());
        prop_assert_eq!(job.phase == JobPhase::Succeeded, job.model_version.is_some());
        prop_assert!(job.stages_run as usize <= job.stage_count);
    }
    let total = sum(total, simulation.world.scheduler.counters());
    Ok((total, simulation.met, simulation.resumed))
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        stale_reports: a.stale_reports + b.stale_reports,
        duplicate_reports: a.duplicate_reports + b.duplicate_reports,
        old_session_messages: a.old_session_messages + b.old_session_messages,
        assigned: a.assigned + b.assigned,
        finished: a.finished + b.finished,
        faults: a.faults + b.faults,
        losses: a.losses + b.losses,
        returns: a.returns + b.returns,
        adopted: a.adopted + b.adopted,
    }
}

#[test]
fn every_job_ends_and_no_stage_is_done_twice() {
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let total = Cell::new((Counters::default(), 0, 0));
    let histories = prop::collection::vec(op(), 1..150);
    let outcome = TestRunner::new(config).run(&histories, |ops| {
        let (before, now) = (total.get(), live_through(ops)?);
        total.set((sum(before.0, now.0), before.1 + now.1, before.2 + now.2));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // The faults that this is about did happen.
    let (total, met, resumed) = total.get();
    assert!(met > 0 && resumed > 0, "{met} met, {resumed} resumed");
    assert!(
        total.finished > 0 && total.faults > 0 && total.losses > 0 && total.returns > 0 && total.adopted > 0,
        "{total:?}"
    );
    assert!(
        total.stale_reports > 0 && total.duplicate_reports > 0,
        "{total:?}"
    );
}
