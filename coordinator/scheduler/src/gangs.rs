//! What rank 0 says for its gang: where the others find it, and what a later attempt can go on from.

use nettailor_domain::explain::What;
use nettailor_domain::ids::{Seat, StageKey, WorkerId};
use nettailor_domain::session::Address;
use nettailor_domain::stage::{Artifact, Checkpoint};

use crate::effect::Effect;
use crate::event::SessionNumber;
use crate::record::{KeptCheckpoint, Subject};
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::Running;

impl Scheduler {
    /// Rank 0 waits for the other ranks: they are told where. The same address said again, as in a new session, is not
    /// passed on again: whoever missed it is told when its worker is back.
    pub(crate) fn meeting(
        &mut self,
        worker: &WorkerId,
        session: SessionNumber,
        seat: Seat,
        address: Address,
    ) {
        let Some(running) = self.said_by_rank_0(worker, session, seat) else {
            return;
        };
        if running.meeting.as_ref() == Some(&address) {
            return;
        }
        running.meeting = Some(address);
        for (other, name) in running.open_seats(seat.attempt) {
            self.invite(&name, other);
        }
    }

    /// Tells a rank of a current attempt where rank 0 waits for it, if that is known and its worker is connected.
    pub(crate) fn invite(&mut self, worker: &WorkerId, seat: Seat) {
        let running = self.stages[&seat.attempt.stage].running();
        let address = running.and_then(|running| running.meeting.clone());
        let session = self.workers.get(worker).and_then(|worker| worker.session());
        if let (Some(address), Some(session)) = (address.filter(|_| seat.rank > 0), session) {
            let session = session.number;
            self.effect(Effect::Meet {
                worker: worker.clone(),
                session,
                seat,
                address,
            });
        }
    }

    /// Rank 0 left a checkpoint: the next attempt goes on from there. One that comes out of order, or again, is not taken.
    pub(crate) fn checkpointed(
        &mut self,
        worker: &WorkerId,
        session: SessionNumber,
        seat: Seat,
        checkpoint: Checkpoint,
    ) {
        let key = seat.attempt.stage;
        if self.said_by_rank_0(worker, session, seat).is_none() {
            return self.discard_unless_kept(key, checkpoint.artifact);
        }
        let left = KeptCheckpoint {
            checkpoint,
            attempt: seat.attempt.number,
        };
        let age = |kept: &KeptCheckpoint| (kept.attempt, kept.checkpoint.step);
        if self.stages[&key]
            .checkpoint
            .is_none_or(|kept| age(&kept) < age(&left) || sabotage::is(Sabotage::Older))
        {
            self.go_on_from(key, Some(left));
            self.keep_stage(key);
            let now = self.now.elapsed;
            if let Some(running) = self.stage_mut(key).live_mut(worker, seat) {
                running.last_checkpoint = Some(now);
            }
            self.stirred = true;
            let reason = format!("after epoch {}", checkpoint.epoch);
            self.happened(Subject::Stage(key), What::Checkpoint, seat.attempt.number, reason);
            self.yield_now(key);
        } else {
            self.discard_unless_kept(key, checkpoint.artifact);
        }
    }

    /// What the next attempt of a stage goes on from. What it went on from so far is removed once that is durable.
    pub(crate) fn go_on_from(&mut self, key: StageKey, checkpoint: Option<KeptCheckpoint>) {
        let before = std::mem::replace(&mut self.stage_mut(key).checkpoint, checkpoint);
        if let Some(before) = before {
            self.discard_unless_kept(key, before.checkpoint.artifact);
        }
    }

    /// Has a checkpoint removed that nobody goes on from. Attempts that repeat each other's steps leave the same bytes: what is
    /// removed under one that is just being left costs that one, and no more.
    fn discard_unless_kept(&mut self, key: StageKey, artifact: Artifact) {
        let kept = self.stages.get(&key).and_then(|stage| stage.checkpoint);
        if kept.is_none_or(|kept| kept.checkpoint.artifact != artifact) {
            self.effect(Effect::Discard(artifact));
        }
    }

    /// The attempt of which rank 0 says something, running or vanished; `None`, and counted, if it is over or this is another rank.
    fn said_by_rank_0(
        &mut self,
        worker: &WorkerId,
        session: SessionNumber,
        seat: Seat,
    ) -> Option<&mut Running> {
        if !self.heard(worker, session) {
            return None;
        }
        let live = self.is_current(worker, seat) || self.is_parted(worker, seat);
        if seat.rank != 0 || !live {
            self.counters.stale_reports += 1;
            return None;
        }
        self.reached(worker, seat);
        self.stage_mut(seat.attempt.stage).live_mut(worker, seat)
    }
}
