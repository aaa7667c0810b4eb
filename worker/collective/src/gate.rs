//! What a rank's blocked operations wait at, and what wakes them all.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why nothing of this gang will be done any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aborted(pub(crate) String);

/// Why an operation did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The gang had ended.
    Aborted(Aborted),
    /// This rank's half broke, most often because another rank is gone; in words.
    Broken(String),
}

impl From<Aborted> for Failure {
    fn from(aborted: Aborted) -> Self {
        Self::Aborted(aborted)
    }
}

/// One per rank. Whoever changes what others wait for calls [`Gate::knock`]; whoever learns that the gang is over calls
/// [`Gate::abort`].
#[derive(Debug, Default)]
pub(crate) struct Gate {
    aborted: Mutex<Option<Aborted>>,
    changed: Condvar,
}

impl Gate {
    /// Ends the gang for this rank. The first reason stays.
    pub(crate) fn abort(&self, reason: &str) {
        self.lock().get_or_insert_with(|| Aborted(reason.to_owned()));
        self.changed.notify_all();
    }

    /// An error once the gang has ended.
    pub(crate) fn check(&self) -> Result<(), Aborted> {
        self.lock().clone().map_or(Ok(()), Err)
    }

    /// Makes everyone who waits look again.
    pub(crate) fn knock(&self) {
        // Whoever waits holds the lock from looking to falling asleep; with it taken once, no knock falls in between.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Waits until `ready` has something. The gang's end comes first.
    pub(crate) fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Result<T, Aborted> {
        let mut aborted = self.lock();
        loop {
            if let Some(aborted) = &*aborted {
                return Err(aborted.clone());
            }
            if let Some(found) = ready() {
                return Ok(found);
            }
            aborted = self.changed.wait(aborted).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Gate::wait`], but no longer than `limit`.
    pub(crate) fn wait_at_most<T>(
        &self,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, Aborted> {
        let mut found = None;
        let (aborted, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |aborted| {
                if aborted.is_none() {
                    found = ready();
                }
                aborted.is_none() && found.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        aborted.clone().map_or(Ok(found), Err)
    }

    /// The reason to give for a failure. A transport knows that a connection broke, the watch over the heartbeats which
    /// rank is gone: it has `grace` to say so.
    pub(crate) fn reason(&self, failure: Failure, grace: Duration) -> Aborted {
        match failure {
            Failure::Aborted(aborted) => aborted,
            Failure::Broken(what) => self.wait_at_most(grace, || None::<()>).err().unwrap_or_else(|| {
                self.abort(&what);
                Aborted(what)
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Aborted>> {
        // Nothing that can panic runs under this lock but `ready`, which leaves the reason alone.
        self.aborted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
