//! A scheduler with its store, and time that passes when told to.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use nettailor_domain::ids::{Attempt, Digest, JobId, Seat, StageKey, WorkerId};
use nettailor_domain::session::{Offer, Order};
use nettailor_domain::stage::{Artifact, Checkpoint, StageKind, StageResult};
use nettailor_domain::task::Workers;
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, Now, SessionNumber, Submission};
use nettailor_scheduler::record::{Record, RecordKey, StageState};
use nettailor_scheduler::testing::{failure, result};
use nettailor_scheduler::view::{JobView, StageView, WorkerView};
use nettailor_scheduler::{Config, Rejected, Scheduler};

pub(crate) fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

pub(crate) fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

pub(crate) fn worker(name: &str) -> WorkerId {
    name.parse().expect("a name")
}

pub(crate) fn job(id: &str) -> JobId {
    id.parse().expect("an id")
}

/// After so long a worker that left is lost, and what it ran is placed anew.
pub(crate) const LOST: Duration = Duration::from_secs(12);

pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    /// What is durable.
    pub(crate) kept: HashMap<RecordKey, Record>,
    pub(crate) now: Now,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = Now {
            elapsed: seconds(1),
            listened: seconds(1),
            wall_ms: 1_700_000_000_000,
        };
        Self {
            scheduler: Scheduler::new(Config::default()),
            kept: HashMap::new(),
            now,
        }
    }

    /// Applies an event, keeps its records, and checks everything that must hold then.
    pub(crate) fn try_apply(&mut self, event: Event) -> Result<Vec<Effect>, Rejected> {
        let transition = self.scheduler.apply(event, self.now)?;
        for record in transition.records {
            let key = record.key();
            if let Some(Record::Stage(before)) = self.kept.get(&key)
                && let StageState::Done { .. } = before.state
            {
                panic!("the record of a finished stage was written again: {record:?}");
            }
            if let (Some(Record::Stage(before)), Record::Stage(after)) = (self.kept.get(&key), &record) {
                assert!(after.attempts >= before.attempts, "attempt numbers only grow");
            }
            // A failed stage that is asked for anew and fails in the same event is the one thing written twice alike.
            let failed =
                matches!(&record, Record::Stage(stage) if matches!(stage.state, StageState::Failed { .. }));
            let before = self.kept.insert(key, record.clone());
            assert!(
                failed || before.as_ref() != Some(&record),
                "a record that did not change was written: {record:?}"
            );
        }
        self.check();
        self.check_gangs(&transition.effects);
        Ok(transition.effects)
    }

    /// What was assigned is durable and goes on from what is durable, all of it or nothing.
    fn check_gangs(&self, effects: &[Effect]) {
        let mut gangs: BTreeMap<Attempt, Vec<(WorkerId, Order)>> = BTreeMap::new();
        for (worker, order) in assigned(effects) {
            gangs.entry(order.seat.attempt).or_default().push((worker, order));
        }
        for (attempt, gang) in gangs {
            let Some(Record::Stage(stage)) = self.kept.get(&RecordKey::Stage(attempt.stage)) else {
                panic!("assigned without a record")
            };
            assert_eq!(
                stage.attempts, attempt.number,
                "an attempt is durable before it is assigned"
            );
            let StageState::Running { ranks, .. } = &stage.state else {
                panic!("assigned and not running: {stage:?}")
            };
            assert_eq!(gang.len(), ranks.len(), "no gang is half placed");
            for (rank, ((worker, order), kept)) in (0..).zip(gang.iter().zip(ranks)) {
                assert_eq!((order.seat.rank, worker), (rank, &kept.worker));
                assert_eq!(order.world_size as usize, ranks.len());
                let from = stage.checkpoint.map(|kept| kept.checkpoint.artifact);
                assert_eq!(order.checkpoint, from);
            }
            let users = self.scheduler.stage_jobs(&attempt.stage);
            let kind = self.scheduler.stage_kind(&attempt.stage).expect("it is planned");
            let asked = users.map(|job| job.task.workers).filter(|_| kind.trains());
            let asked = asked.reduce(Workers::or).unwrap_or_default();
            let width = asked.min() as usize..=asked.max() as usize;
            assert!(width.contains(&ranks.len()), "{asked}: {ranks:?}");
        }
    }

    pub(crate) fn apply(&mut self, event: Event) -> Vec<Effect> {
        self.try_apply(event).expect("the event is accepted")
    }

    fn check(&self) {
        if let Err(contradiction) = self.scheduler.check() {
            panic!("{contradiction}");
        }
        for (key, record) in &self.kept {
            let same = match (key, record) {
                (RecordKey::Job(sequence), Record::Job(job)) => {
                    self.scheduler.job_numbered(*sequence).map(|(job, _)| job) == Some(&**job)
                }
                (RecordKey::Status(sequence), Record::Status(status)) => {
                    self.scheduler.job_numbered(*sequence).map(|(_, status)| status) == Some(status)
                }
                (RecordKey::Stage(key), Record::Stage(stage)) => {
                    self.scheduler.stage_record(key).as_ref() == Some(stage)
                }
                (RecordKey::User(name), Record::User(user)) => {
                    self.scheduler.user(name).map(|view| view.record).as_ref() == Some(user)
                }
                (RecordKey::Worker(name), Record::Worker(worker)) => worker.name == *name,
                (RecordKey::Event(..), Record::Event(_)) => true,
                (RecordKey::Model(task, version), Record::Model(model)) => {
                    self.scheduler.model(task, *version) == Some(model)
                }
                _ => false,
            };
            assert!(same, "what is kept under {key:?} is not what the scheduler holds");
        }
    }

    /// Lets time pass, waking the scheduler whenever it asked to be.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Effect> {
        let end = self.now.elapsed + time;
        let mut effects = Vec::new();
        while let Some(at) = self.scheduler.next_wakeup().filter(|at| *at <= end) {
            self.set_time(at.max(self.now.elapsed));
            effects.extend(self.apply(Event::Tick));
            assert!(
                self.scheduler.next_wakeup().is_none_or(|next| next > at),
                "a due timer was left"
            );
        }
        self.set_time(end);
        effects
    }

    fn set_time(&mut self, elapsed: Duration) {
        let passed = elapsed - self.now.elapsed;
        self.now.wall_ms += passed.as_millis() as u64;
        self.now.listened += passed;
        self.now.elapsed = elapsed;
    }

    /// Lets seconds pass in which these workers, each in its session, are heard of.
    pub(crate) fn live(&mut self, workers: &[(&str, SessionNumber)], time: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..time {
            for (name, session) in workers {
                effects.extend(self.heartbeat(name, *session));
            }
            effects.extend(self.pass(seconds(1)));
        }
        effects
    }

    /// The coordinator stands still, and so hears nothing; whatever woke it up is the test's to say.
    pub(crate) fn stall(&mut self, time: Duration) {
        self.now.wall_ms += time.as_millis() as u64;
        self.now.listened += time.min(millis(250));
        self.now.elapsed += time;
    }

    /// The coordinator dies and comes back with what is durable.
    pub(crate) fn restart(&mut self) {
        self.now.elapsed += Duration::from_millis(1);
        self.now.listened += Duration::from_millis(1);
        self.scheduler = Scheduler::restore(Config::default(), self.kept.values().cloned(), self.now)
            .expect("what was kept can be restored");
        self.check();
    }

    pub(crate) fn submit(&mut self, submission: Submission) -> Vec<Effect> {
        self.apply(Event::Submit(submission.into()))
    }

    pub(crate) fn cancel(&mut self, id: &str) -> Vec<Effect> {
        self.apply(Event::Cancel {
            job: job(id),
            reason: "enough".into(),
        })
    }

    pub(crate) fn connect(&mut self, name: &str, session: SessionNumber, slots: u32) -> Vec<Effect> {
        self.connect_with(name, session, slots, &[], &[])
    }

    pub(crate) fn connect_with(
        &mut self,
        name: &str,
        session: SessionNumber,
        slots: u32,
        seats: &[Seat],
        cached: &[Digest],
    ) -> Vec<Effect> {
        let offer = Offer {
            cached: cached.to_vec(),
            seats: seats.to_vec(),
            ..offer(slots, "cpu")
        };
        self.offers(name, session, offer)
    }

    /// A worker comes with what it offers.
    pub(crate) fn offers(&mut self, name: &str, session: SessionNumber, offer: Offer) -> Vec<Effect> {
        self.apply(Event::WorkerConnected {
            worker: worker(name),
            session,
            offer,
        })
    }

    /// A worker speaks of a seat.
    pub(crate) fn runs(&mut self, name: &str, session: SessionNumber, seat: Seat) {
        let effects = self.apply(Event::SeatRuns {
            worker: worker(name),
            session,
            seat,
        });
        assert!(effects.is_empty(), "{effects:?}");
    }

    /// Rank 0 leaves a checkpoint.
    pub(crate) fn checkpoint(
        &mut self,
        name: &str,
        session: SessionNumber,
        seat: Seat,
        epoch: u32,
    ) -> Vec<Effect> {
        let bytes = format!("{seat} after {epoch}");
        let artifact = Artifact {
            digest: Digest::of(bytes.as_bytes()),
            bytes: 1,
        };
        self.apply(Event::Checkpointed {
            worker: worker(name),
            session,
            seat,
            checkpoint: Checkpoint {
                artifact,
                epoch,
                step: u64::from(epoch),
            },
        })
    }

    pub(crate) fn disconnect(&mut self, name: &str, session: SessionNumber) -> Vec<Effect> {
        self.apply(Event::WorkerDisconnected {
            worker: worker(name),
            session,
        })
    }

    pub(crate) fn heartbeat(&mut self, name: &str, session: SessionNumber) -> Vec<Effect> {
        self.apply(Event::Heartbeat {
            worker: worker(name),
            session,
        })
    }

    pub(crate) fn finish(&mut self, name: &str, session: SessionNumber, order: &Order) -> Vec<Effect> {
        self.apply(Event::SeatFinished {
            worker: worker(name),
            session,
            seat: order.seat,
            result: (order.seat.rank == 0).then(|| Box::new(result(order))),
        })
    }

    pub(crate) fn finish_with(
        &mut self,
        name: &str,
        session: SessionNumber,
        seat: Seat,
        result: StageResult,
    ) -> Vec<Effect> {
        self.apply(Event::SeatFinished {
            worker: worker(name),
            session,
            seat,
            result: Some(Box::new(result)),
        })
    }

    pub(crate) fn fail(
        &mut self,
        name: &str,
        session: SessionNumber,
        seat: Seat,
        class: FailureClass,
    ) -> Vec<Effect> {
        self.fail_with(name, session, seat, failure(class))
    }

    pub(crate) fn fail_with(
        &mut self,
        name: &str,
        session: SessionNumber,
        seat: Seat,
        failure: Failure,
    ) -> Vec<Effect> {
        self.apply(Event::SeatFailed {
            worker: worker(name),
            session,
            seat,
            failure,
        })
    }

    /// Lets workers in session 1 do everything they are assigned, successfully. Returns the stages in that order.
    pub(crate) fn run(&mut self, effects: Vec<Effect>) -> Vec<StageKind> {
        let mut ran = Vec::new();
        let mut open = assigned(&effects);
        while !open.is_empty() {
            let (name, order) = open.remove(0);
            ran.push(order.spec.kind());
            let effects = self.finish(name.as_str(), 1, &order);
            open.extend(assigned(&effects));
        }
        ran
    }

    pub(crate) fn job(&self, id: &str) -> JobView {
        self.scheduler.job(&job(id)).expect("the job exists")
    }

    pub(crate) fn stage(&self, id: &str, kind: StageKind) -> StageView {
        self.job(id)
            .stages
            .into_iter()
            .find(|stage| stage.kind == kind)
            .expect("the stage exists")
    }

    pub(crate) fn key(&self, id: &str, kind: StageKind) -> StageKey {
        self.stage(id, kind).key
    }

    pub(crate) fn worker(&self, name: &str) -> WorkerView {
        self.scheduler
            .workers()
            .find(|view| view.id.as_str() == name)
            .expect("the worker is known")
    }
}

/// What was assigned to whom.
pub(crate) fn assigned(effects: &[Effect]) -> Vec<(WorkerId, Order)> {
    let assigned = effects.iter().filter_map(|effect| match effect {
        Effect::Assign { worker, order, .. } => Some((worker.clone(), (**order).clone())),
        _ => None,
    });
    assigned.collect()
}

/// The one thing that was assigned.
pub(crate) fn only(effects: &[Effect]) -> Order {
    let mut all = assigned(effects);
    assert_eq!(all.len(), 1, "one assignment was expected: {effects:?}");
    all.remove(0).1
}

/// Seats that were told to stop.
pub(crate) fn stopped(effects: &[Effect]) -> Vec<Seat> {
    let stopped = effects.iter().filter_map(|effect| match effect {
        Effect::Stop { seat, .. } => Some(*seat),
        _ => None,
    });
    stopped.collect()
}

/// Seats whose reports were acknowledged.
pub(crate) fn acknowledged(effects: &[Effect]) -> Vec<Seat> {
    let acknowledged = effects.iter().filter_map(|effect| match effect {
        Effect::Acknowledge { seat, .. } => Some(*seat),
        _ => None,
    });
    acknowledged.collect()
}

/// Sessions that were closed.
pub(crate) fn closed(effects: &[Effect]) -> Vec<SessionNumber> {
    let closed = effects.iter().filter_map(|effect| match effect {
        Effect::CloseSession { session, .. } => Some(*session),
        _ => None,
    });
    closed.collect()
}

pub(crate) fn offer(slots: u32, device: &str) -> Offer {
    Offer {
        slots,
        threads_per_slot: 1,
        device: device.into(),
        cached: Vec::new(),
        seats: Vec::new(),
        version: "0.1.0".into(),
        draining: false,
        labels: Default::default(),
    }
}
