//! What must hold after every event.

use std::collections::HashMap;

use nettailor_domain::ids::{Seat, WorkerId};

use crate::scheduler::{Scheduler, is_active};
use crate::stage::{Pending, Stage, State, Wait};
use crate::worker::{Hold, Worker};

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
        let fitting = self.line.first_within(self.free_slots());
        let kept = self.front().filter(|front| self.is_impatient(*front));
        expect(fitting.is_none() || (kept.is_some() && kept != fitting), || {
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
        let name = format!("{} {}", stage.kind(), stage.planned.key.0.short());
        let parents_done = stage
            .planned
            .parents
            .iter()
            .all(|parent| self.stages[parent].is_done());
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
                Wait::Slots { place, least } => {
                    let right = stage.users.first() == Some(*place)
                        && stage.width().min() == *least
                        && self.line.contains(*least, *place, stage.planned.key);
                    expect(right && parents_done, || {
                        format!("{name} is not in line at its place")
                    })
                }
                Wait::BackOff(_) => {
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
                let owned = !stage.users.is_empty() || running.ending.is_some();
                expect(owned, || {
                    format!("{name} runs for nobody and is not being stopped")
                })?;
                let timed = running.deadline.is_some() || running.ending.is_some();
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
                    let leaving = matches!(hold, Hold::Stopping { .. });
                    expect(leaving, || {
                        format!("{seat} takes a slot of {name} and is not being stopped")
                    })?;
                }
            }
            let (used, free) = (worker.used(), worker.free());
            let takes_work = matches!(worker.link, crate::worker::Link::Ready(_));
            let adds_up = !takes_work || used > worker.slots || used + free == worker.slots;
            expect(adds_up, || {
                format!("{name}: {used} used and {free} free of {} slots", worker.slots)
            })?;
            expect(self.free.contains(name) == (free > 0), || {
                format!("{name}: its free slots are not indexed")
            })?;
        }
        let known = |name: &WorkerId| {
            self.workers
                .get(name)
                .is_some_and(|worker: &Worker| worker.free() > 0)
        };
        expect(self.free.iter().all(known), || {
            "an unknown worker counts as free".into()
        })
    }

    fn check_jobs(&self) -> Result<(), String> {
        for job in self.jobs.values() {
            let uses = |stage: &Stage| stage.users.iter().any(|place| place.sequence == job.sequence);
            let right = job
                .stages
                .iter()
                .all(|key| uses(&self.stages[key]) == is_active(job));
            expect(right, || {
                format!("job {} and its stages do not agree on whether it lives", job.id)
            })?;
            let open = !is_active(job) || !self.last_stage(job.sequence).is_done();
            expect(open, || {
                format!("job {} has all its results and did not end", job.id)
            })?;
        }
        Ok(())
    }
}

fn waits_for_slots(stage: &Stage) -> bool {
    matches!(
        &stage.state,
        State::Pending(Pending {
            wait: Wait::Slots { .. },
            ..
        })
    )
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
