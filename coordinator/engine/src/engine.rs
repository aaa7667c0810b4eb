//! Requests change the state.

use std::time::Duration;

use nettailor_domain::ids::{JobId, Seat};
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, Now, Submission};

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
            Request::Cancel { job, reason } => {
                let job = self.state.scheduler.find_job(&job)?.clone();
                let cancelled = job.clone();
                self.event(Event::Cancel { job, reason })?;
                Ok(Answer::Job(cancelled))
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

    /// All are looked at before the first is taken.
    fn submit(&mut self, submissions: Vec<Submission>) -> Result<Answer, Refused> {
        for submission in &submissions {
            self.state.scheduler.validate(submission)?;
        }
        let ids: Vec<JobId> = submissions.iter().map(|one| one.job.clone()).collect();
        for submission in submissions {
            self.event(Event::Submit(submission))?;
        }
        Ok(Answer::Submitted(ids))
    }

    /// All ranks of an attempt do the same: rank 0's progress is what is kept and shown.
    fn progress(&mut self, by: &Speaker, seat: Seat, progress: Progress) -> Result<Answer, Refused> {
        let open = self.heard(by, seat)?;
        let counts = open && seat.rank == 0 && self.state.scheduler.is_current(&by.worker, seat);
        if counts {
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
