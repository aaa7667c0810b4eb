//! What is looked up in the artifact store before it counts, beside the session that asks for it.

use std::collections::HashMap;

use nettailor_domain::ids::Seat;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// What is being looked up in the artifact store before it counts.
#[derive(Default)]
pub(super) struct Lookups {
    pub(super) results: Tasks,
    pub(super) checkpoints: Tasks,
}

/// Tasks at the side, one for each seat: while the artifact store is away, heartbeats and other reports go on. They end with
/// the session.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: JoinSet<()>,
    /// The latest for each seat. Earlier ones, which go on, count for nobody.
    running: HashMap<Seat, AbortHandle>,
}

impl Tasks {
    pub(super) fn start(&mut self, seat: Seat, task: impl Future<Output = ()> + Send + 'static) {
        self.forget_ended();
        self.running.insert(seat, self.tasks.spawn(task));
    }

    /// Waits until the one for this seat has ended. Cancel-safe.
    pub(super) async fn ended(&mut self, seat: Seat) {
        while self.running.contains_key(&seat)
            && let Some(ended) = self.tasks.join_next_with_id().await
        {
            self.forget(ended);
        }
    }

    /// Ends the one for this seat; says whether there was one.
    pub(super) fn end(&mut self, seat: Seat) -> bool {
        self.forget_ended();
        let task = self.running.remove(&seat);
        task.map(|task| task.abort()).is_some()
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = ended.map_or_else(|broken| broken.id(), |(id, ())| id);
        self.running.retain(|_, task| task.id() != id);
    }
}

#[cfg(test)]
mod tests {
    use nettailor_domain::ids::{Attempt, Digest, StageKey};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_latest_for_a_seat_is_waited_for_and_none_is_kept() {
        let attempt = Attempt {
            stage: StageKey(Digest::of(b"teacher")),
            number: 1,
        };
        let seat = Seat { attempt, rank: 0 };
        let mut tasks = Tasks::default();
        for _ in 0..3 {
            tasks.start(seat, async {});
            tokio::task::yield_now().await;
        }
        assert!(tasks.tasks.len() <= 2, "ended ones are let go");
        let (open, opened) = oneshot::channel::<()>();
        let (told, mut done) = oneshot::channel();
        tasks.start(seat, async move {
            let _ = opened.await;
            told.send(()).expect("it is waited for");
        });
        tokio::task::yield_now().await;
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(20), tasks.ended(seat))
                .await
                .is_err()
        );
        open.send(()).expect("it goes on");
        tasks.ended(seat).await;
        done.try_recv().expect("it has ended");
        assert!(!tasks.end(seat), "there is none any more");
    }
}
