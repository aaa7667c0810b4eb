//! What must hold after every event.

use std::collections::{BTreeMap, HashMap};

use nettailor_domain::ids::{Seat, UserName, WorkerId};

use crate::dispatch::Decision;
use crate::pool::Counted;
use crate::scheduler::Scheduler;
use crate::stage::{Pending, Stage, State, Wait};
use crate::worker::{HoldState, Worker};

impl Scheduler {
    /// Looks at everything and says what contradicts the scheduler's invariants. For tests: it is slow.
    ///
    /// # Errors
    /// The first contradiction, in words.
    pub fn check(&self) -> Result<(), String> {
        self.stages
            .values()
            .try_for_each(|stage| self.check_stage(stage))?;
        self.check_slots()?;
        self.check_jobs()?;
        let queued = self
            .stages
            .values()
            .filter(|stage| waits_for_slots(stage))
            .count();
        expect(queued == self.line.len(), || {
            format!("{queued} stages wait for slots, {} in line", self.line.len())
        })?;
        // What fits into the free slots was started, unless they are kept for a stage that they are too few for.
        expect(self.decide() == Decision::Nothing, || {
            "a ready stage fits into the free slots".into()
        })?;
        for (task, models) in &self.models {
            let contiguous = models
                .iter()
                .zip(1..)
                .all(|(model, version)| model.version == version);
            expect(contiguous, || format!("versions of {task} have a gap"))?;
        }
        Ok(())
    }

    fn check_stage(&self, stage: &Stage) -> Result<(), String> {
        let name = format!("{} {}", stage.kind, stage.key.0.short());
        let parents_done = stage.parents.iter().all(|parent| self.stages[parent].is_done());
        match &stage.state {
            State::Pending(Pending {
                vanished: Some(_), ..
            }) if stage.users.is_empty() => Err(format!("{name} is kept to be taken up again for nobody")),
            State::Pending(Pending { wait, .. }) => match wait {
                Wait::Idle => expect(stage.users.is_empty(), || {
                    format!("{name} is idle with live jobs")
                }),
                Wait::Parents => expect(!stage.users.is_empty() && !parents_done, || {
                    format!("{name} waits for nothing")
                }),
                Wait::Slots(ticket) => {
                    let right = stage.users.first() == Some(ticket.turn)
                        && stage.width().min() == ticket.need.least
                        && self.line.contains(ticket, stage.key);
                    expect(right && parents_done, || {
                        format!("{name} is not in line at its place")
                    })
                }
                Wait::BackOff(_) | Wait::SetAside(_) => {
                    expect(!stage.users.is_empty(), || format!("{name} backs off for nobody"))
                }
            },
            State::Running(running) => {
                let open = running.open_seats(stage.attempt());
                expect(!open.is_empty(), || format!("{name} runs and all ranks are done"))?;
                for (seat, worker) in open {
                    let worker = self.workers.get(&worker).filter(|w| w.held.contains_key(&seat));
                    expect(worker.is_some(), || {
                        format!("{seat} of {name} runs without a slot")
                    })?;
                }
                let reported = running.ranks.first().is_some_and(|rank| rank.done);
                expect(reported == running.result.is_some(), || {
                    format!("rank 0 of {name} is done without a result, or has one and is not")
                })?;
                expect(parents_done, || {
                    format!("{name} runs before its parents are done")
                })?;
                let owned = !stage.users.is_empty() || running.ending.is_some() || running.yielding.is_some();
                expect(owned, || {
                    format!("{name} runs for nobody and is not being stopped")
                })?;
                let timed =
                    running.deadline.is_some() || running.ending.is_some() || running.yielding.is_some();
                expect(timed, || format!("{name} runs without a deadline"))
            }
            State::Done(_) => expect(parents_done && stage.checkpoint.is_none(), || {
                format!("{name} is done before its parents, or keeps a checkpoint")
            }),
            State::Failed(_) => expect(stage.users.is_empty(), || {
                format!("{name} failed and live jobs ask for it")
            }),
        }
    }

    fn check_slots(&self) -> Result<(), String> {
        let mut places: HashMap<Seat, &WorkerId> = HashMap::new();
        for (name, worker) in &self.workers {
            for (seat, hold) in &worker.held {
                if self.is_current(name, *seat) || self.is_parted(name, *seat) {
                    let other = places.insert(*seat, name);
                    expect(other.is_none(), || format!("{seat} runs on {name} and {other:?}"))?;
                } else {
                    let leaving = !matches!(hold.state, HoldState::Working);
                    expect(leaving, || {
                        format!("{seat} takes a slot of {name} and is not being stopped")
                    })?;
                }
            }
            let (used, free) = (worker.used(), worker.free());
            let takes_work = worker.takes_work();
            let adds_up = !takes_work || used > worker.slots || used + free == worker.slots;
            expect(adds_up, || {
                format!("{name}: {used} used and {free} free of {} slots", worker.slots)
            })?;
            let counted = takes_work.then_some(Counted {
                total: worker.slots,
                free,
            });
            expect(
                worker.counted == counted && worker.admitted == self.admits(name),
                || format!("{name}: its slots are not counted"),
            )?;
        }
        let free = |worker: &&Worker| worker.free() > 0;
        let free: BTreeMap<&WorkerId, u32> = self
            .workers
            .iter()
            .filter(|(_, worker)| free(worker))
            .map(|(name, worker)| (name, worker.free()))
            .collect();
        expect(free == self.pools.counted_free(), || {
            "the pools do not count what workers have free".into()
        })?;
        self.check_accounts()
    }

    /// What users have in use is what workers hold for them, and nobody has more than the limit allows.
    fn check_accounts(&self) -> Result<(), String> {
        let holds = self.workers.values().flat_map(|worker| worker.held.values());
        let mut sums: BTreeMap<&UserName, u32> = BTreeMap::new();
        for payer in holds.filter_map(|hold| hold.payer.as_ref()) {
            *sums.entry(payer).or_default() += 1;
        }
        for (name, account) in &self.accounts {
            let held = sums.remove(name).unwrap_or(0);
            expect(held == account.in_use, || {
                format!("{name} pays for {} slots and holds {held}", account.in_use)
            })?;
        }
        expect(sums.is_empty(), || "somebody unknown pays for a slot".into())
    }

    fn check_jobs(&self) -> Result<(), String> {
        for job in self.jobs.values() {
            let record = &job.record;
            let uses = |stage: &Stage| {
                stage
                    .users
                    .iter()
                    .any(|turn| turn.place.sequence == record.sequence)
            };
            let right = record
                .stages
                .iter()
                .all(|key| uses(&self.stages[key]) == job.asks());
            expect(right, || {
                format!(
                    "job {} and its stages do not agree on whether it lives",
                    record.id
                )
            })?;
            let open = !job.asks() || !self.last_stage(record.sequence).is_done();
            expect(open, || {
                format!("job {} has all its results and did not end", record.id)
            })?;
        }
        Ok(())
    }
}

fn waits_for_slots(stage: &Stage) -> bool {
    matches!(
        &stage.state,
        State::Pending(Pending {
            wait: Wait::Slots(_),
            ..
        })
    )
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
