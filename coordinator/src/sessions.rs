//! Live worker sessions: the way to each agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nettailor_domain::ids::WorkerId;
use nettailor_proto::convert::session::FromCoordinator;
use nettailor_proto::status::{Code, Error};
use nettailor_scheduler::event::SessionNumber;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Messages on their way to one agent: assignments for its slots, stops and acknowledgements, a few per slot. An agent
/// with this many unread has stopped reading, and its session is closed.
const QUEUED_MESSAGES: usize = 1024;

type Outgoing = Result<FromCoordinator, Error>;

/// The open sessions, at most one per worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    open: Arc<Mutex<HashMap<WorkerId, Open>>>,
    /// Number of the latest session. Starts over with the process: the scheduler forgets sessions, too.
    latest: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Open {
    number: SessionNumber,
    outgoing: mpsc::Sender<Outgoing>,
    closed: CancellationToken,
}

/// A new session, for the task that serves it.
pub(crate) struct Session {
    pub(crate) number: SessionNumber,
    /// What to send to the agent.
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    /// Cancelled when the session is to end.
    pub(crate) closed: CancellationToken,
}

impl Sessions {
    /// Opens a session, whose first message is `welcome`. An earlier one of the same worker gives way.
    pub(crate) fn open(&self, worker: &WorkerId, welcome: FromCoordinator) -> Session {
        let number = 1 + self.latest.fetch_add(1, Ordering::Relaxed);
        let (sender, outgoing) = mpsc::channel(QUEUED_MESSAGES);
        sender.try_send(Ok(welcome)).expect("a new channel has room");
        let closed = CancellationToken::new();
        let session = Open {
            number,
            outgoing: sender,
            closed: closed.clone(),
        };
        if let Some(earlier) = self.lock().insert(worker.clone(), session) {
            earlier.end(Code::SessionReplaced, "the worker opened a newer session");
        }
        Session {
            number,
            outgoing,
            closed,
        }
    }

    /// Sends a message to an agent. In a session that has ended it is dropped: the scheduler learns of the end and acts
    /// on that.
    pub(crate) fn send(&self, worker: &WorkerId, number: SessionNumber, message: FromCoordinator) {
        let mut open = self.lock();
        let Some(session) = open.get(worker).filter(|session| session.number == number) else {
            return;
        };
        if session.outgoing.try_send(Ok(message)).is_err() {
            warn!(%worker, "the worker does not read its messages: closing its session");
            if let Some(session) = open.remove(worker) {
                session.end(Code::Unavailable, "the worker does not read its messages");
            }
        }
    }

    /// Closes a session, saying why.
    pub(crate) fn close(&self, worker: &WorkerId, number: SessionNumber, reason: &str) {
        let mut open = self.lock();
        if open.get(worker).is_some_and(|session| session.number == number)
            && let Some(session) = open.remove(worker)
        {
            session.end(Code::Unavailable, reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerId, Open>> {
        // Every change under the lock is a single call: a panic elsewhere leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The reason is the last message; an agent that does not read misses it. `Unavailable` asks the agent to come back,
    /// `SessionReplaced` tells it that another one has taken its name.
    fn end(self, code: Code, reason: &str) {
        let _ = self
            .outgoing
            .try_send(Err(Error::new(code, format!("session closed: {reason}"))));
        self.closed.cancel();
    }
}
