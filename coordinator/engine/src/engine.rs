//! Requests change the state.

use std::collections::HashSet;
use std::time::Duration;

use nettailor_domain::ids::{JobId, Seat};
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::Rejected;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, Now, Planned, Submission};
use nettailor_scheduler::record::UserRecord;

use crate::parallel::map_each;
use crate::request::{Answer, Refused, Request, Speaker};
use crate::row::{Change, Row};
use crate::state::State;

/// How much of the time that has passed may be forgotten by a crash while nothing else is kept.
const CLOCK_EVERY: Duration = Duration::from_secs(60);

/// The state, and the one way to change it.
#[derive(Debug)]
pub struct Engine {
    state: State,
    /// When the clock was last kept.
    clock_kept: Duration,
}

/// What came of a request.
#[derive(Debug)]
pub struct Applied {
    /// What must be durable before anything else happens.
    pub changes: Vec<Change>,
    /// What to do then, in order.
    pub effects: Vec<Effect>,
    /// What to answer after that.
    pub answer: Result<Answer, Refused>,
}

impl Engine {
    /// An engine on a state that was just restored.
    pub fn new(state: State) -> Self {
        let clock_kept = state.scheduler.elapsed();
        Self { state, clock_kept }
    }

    /// What is known.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies a request. A refused one has changed nothing.
    pub fn apply(&mut self, request: Request, now: Now) -> Applied {
        let mut turn = Turn {
            state: &mut self.state,
            now,
            changes: Vec::new(),
            effects: Vec::new(),
        };
        let answer = turn.carry_out(request);
        let Turn {
            mut changes, effects, ..
        } = turn;
        if !changes.is_empty() || now.elapsed.saturating_sub(self.clock_kept) >= CLOCK_EVERY {
            self.clock_kept = now.elapsed;
            changes.push(Change::Put(Row::Clock(now.elapsed)));
        }
        Applied {
            changes,
            effects,
            answer,
        }
    }

    /// Elapsed time at which a [`Request::Tick`] is next of use.
    pub fn next_wakeup(&self) -> Duration {
        let clock = self.clock_kept.saturating_add(CLOCK_EVERY);
        let timer = self.state.scheduler.next_wakeup();
        timer.map_or(clock, |timer| timer.min(clock))
    }
}

/// One request at work.
struct Turn<'a> {
    state: &'a mut State,
    now: Now,
    changes: Vec<Change>,
    effects: Vec<Effect>,
}

impl Turn<'_> {
    fn carry_out(&mut self, request: Request) -> Result<Answer, Refused> {
        match request {
            Request::Submit(submissions) => self.submit(submissions),
            Request::Cancel { job, reason } => self.control(&job, |job| Event::Cancel { job, reason }),
            Request::Update {
                job,
                priority,
                deadline,
            } => self.control(&job, |job| Event::Update {
                job,
                priority,
                deadline,
            }),
            Request::Pause { job, reason, time } => {
                self.control(&job, |job| Event::Pause { job, reason, time })
            }
            Request::Resume { job } => self.control(&job, |job| Event::Resume { job }),
            Request::Retry {
                jobs,
                failed_only,
                from,
            } => self.retry(jobs, failed_only, from),
            Request::Cordon {
                worker,
                reason,
                drain,
            } => {
                self.event(Event::Cordon {
                    worker,
                    reason,
                    drain,
                })?;
                Ok(Answer::Done)
            }
            Request::Uncordon { worker } => {
                self.event(Event::Uncordon { worker })?;
                Ok(Answer::Done)
            }
            Request::SetUser {
                name,
                weight,
                limit,
                guarantee,
            } => {
                let user = self.state.scheduler.user(&name);
                let before = user.map_or_else(|| UserRecord::usual(name), |user| user.record);
                self.event(Event::SetUser(UserRecord {
                    weight: weight.unwrap_or(before.weight),
                    limit: limit.unwrap_or(before.limit),
                    guarantee: guarantee.unwrap_or(before.guarantee),
                    ..before
                }))?;
                Ok(Answer::Done)
            }
            Request::Register(mut backbone) => {
                backbone.registered_ms = self.now.wall_ms;
                self.state.backbones.insert(backbone.arch, backbone.clone());
                self.changes.push(Change::Put(Row::Backbone(backbone.clone())));
                Ok(Answer::Registered(backbone))
            }
            Request::Agent(event) => {
                self.event(event)?;
                Ok(Answer::Done)
            }
            Request::Progress { by, seat, progress } => self.progress(&by, seat, progress),
            Request::Log { by, seat } => {
                let open = self.heard(&by, seat)?;
                let counts = open && self.state.scheduler.takes_slot(&by.worker, seat);
                Ok(Answer::Heard(counts))
            }
            Request::Tick => {
                self.event(Event::Tick)?;
                Ok(Answer::Done)
            }
        }
    }

    /// Does something to the job whose id starts like this.
    fn control(&mut self, prefix: &str, event: impl FnOnce(JobId) -> Event) -> Result<Answer, Refused> {
        let job = self.state.scheduler.find_job(prefix)?.clone();
        self.event(event(job.clone()))?;
        Ok(Answer::Job(job))
    }

    /// Submits what ended jobs asked for once more.
    fn retry(
        &mut self,
        jobs: Vec<(String, JobId)>,
        failed_only: bool,
        from: Option<StageKind>,
    ) -> Result<Answer, Refused> {
        let mut submissions = Vec::with_capacity(jobs.len());
        for (prefix, fresh) in jobs {
            let scheduler = &self.state.scheduler;
            let id = scheduler.find_job(&prefix)?;
            submissions.extend(scheduler.once_more(id, fresh, failed_only, from)?);
        }
        self.submit(submissions)
    }

    /// All are looked at before the first is taken.
    fn submit(&mut self, submissions: Vec<Submission>) -> Result<Answer, Refused> {
        let mut fresh = HashSet::with_capacity(submissions.len());
        for submission in &submissions {
            self.state.scheduler.validate(submission)?;
            if !fresh.insert(&submission.job) {
                return Err(Rejected::DuplicateJob(submission.job.clone()).into());
            }
        }
        let ids: Vec<JobId> = submissions.iter().map(|one| one.job.clone()).collect();
        for planned in map_each(submissions, Planned::from) {
            self.event(Event::Submit(planned))?;
        }
        Ok(Answer::Submitted(ids))
    }

    /// All ranks of an attempt do the same: rank 0's progress is what is kept and shown.
    fn progress(&mut self, by: &Speaker, seat: Seat, progress: Progress) -> Result<Answer, Refused> {
        let open = self.heard(by, seat)?;
        let counts = open && seat.rank == 0 && self.state.scheduler.is_current(&by.worker, seat);
        if counts {
            if let Some(left) = progress
                .eta_seconds
                .and_then(|left| Duration::try_from_secs_f64(left).ok())
            {
                self.event(Event::Pace {
                    worker: by.worker.clone(),
                    session: by.session,
                    seat,
                    left,
                })?;
            }
            let row = self.state.report(seat.attempt, progress);
            self.changes.push(Change::Put(row));
        }
        Ok(Answer::Heard(counts))
    }

    /// Takes in that a worker speaks of a seat. Says whether it does so in its open session.
    fn heard(&mut self, by: &Speaker, seat: Seat) -> Result<bool, Refused> {
        let Speaker { worker, session } = by.clone();
        self.event(Event::SeatRuns {
            worker,
            session,
            seat,
        })?;
        Ok(self.state.scheduler.is_open(&by.worker, by.session))
    }

    fn event(&mut self, event: Event) -> Result<(), Refused> {
        let transition = self.state.scheduler.apply(event, self.now)?;
        let forgotten = self.state.forget_progress(&transition.records);
        let kept = transition.records.into_iter().map(Row::Record);
        self.changes.extend(kept.map(Change::Put));
        self.changes.extend(forgotten.into_iter().map(Change::Remove));
        self.effects.extend(transition.effects);
        Ok(())
    }
}
