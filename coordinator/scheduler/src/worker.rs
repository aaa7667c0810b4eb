//! A worker and its slots.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use nettailor_domain::ids::{Digest, Seat};
use nettailor_domain::session::Offer;
use nettailor_domain::stage::Artifact;

use crate::event::SessionNumber;

/// A worker that has a session, or had one and is waited for.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) slots: u32,
    pub(crate) threads_per_slot: u32,
    pub(crate) device: String,
    pub(crate) version: String,
    /// Blobs thought to be in its cache: what it said, and what ran on it has read and written since.
    pub(crate) cached: HashSet<Digest>,
    pub(crate) link: Link,
    /// What takes its slots, one each; several may be of one attempt.
    pub(crate) held: BTreeMap<Seat, Hold>,
    /// Milliseconds since 1970 of its last message, for display; 0 for none.
    pub(crate) last_seen_ms: u64,
}

/// Whether a worker can be talked to.
#[derive(Debug)]
pub(crate) enum Link {
    /// It takes work.
    Ready(Session),
    /// It takes no new work.
    Draining(Session),
    /// It is waited for.
    Disconnected {
        /// Listened time at which it is lost.
        until: Duration,
        /// When its timer is armed for.
        lease_at: Duration,
        /// Whether it is away by the coordinator's own doing: what is lost with it then does not count as a loss.
        excused: bool,
    },
}

/// An open session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) number: SessionNumber,
    /// Listened time of its last message.
    pub(crate) last_heard: Duration,
    /// When its timer is armed for. It is armed anew when it fires, not with every message.
    pub(crate) lease_at: Duration,
}

/// Why a slot is taken.
#[derive(Debug, Clone)]
pub(crate) enum Hold {
    /// The rank runs.
    Working,
    /// The rank was told to stop; its end was not reported.
    Stopping {
        /// Why, in words.
        reason: String,
        /// When the stop is sent again; a timer is armed.
        again: Duration,
    },
}

impl Worker {
    /// A worker with a new session.
    pub(crate) fn connected(offer: &Offer, session: Session, last_seen_ms: u64) -> Self {
        Self {
            slots: offer.slots,
            threads_per_slot: offer.threads_per_slot,
            device: offer.device.clone(),
            version: offer.version.clone(),
            cached: offer.cached.iter().copied().collect(),
            link: if offer.draining {
                Link::Draining(session)
            } else {
                Link::Ready(session)
            },
            held: BTreeMap::new(),
            last_seen_ms,
        }
    }

    /// A worker known only by what ran on it before a restart, and its link.
    pub(crate) fn remembered(link: Link) -> Self {
        Self {
            slots: 0,
            threads_per_slot: 0,
            device: String::new(),
            version: String::new(),
            cached: HashSet::new(),
            link,
            held: BTreeMap::new(),
            last_seen_ms: 0,
        }
    }

    /// Its open session.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.link {
            Link::Ready(session) | Link::Draining(session) => Some(session),
            Link::Disconnected { .. } => None,
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.link {
            Link::Ready(session) | Link::Draining(session) => Some(session),
            Link::Disconnected { .. } => None,
        }
    }

    /// When its timer is armed for.
    pub(crate) fn lease_at(&self) -> Duration {
        match self.link {
            Link::Ready(session) | Link::Draining(session) => session.lease_at,
            Link::Disconnected { lease_at, .. } => lease_at,
        }
    }

    /// Slots taken.
    pub(crate) fn used(&self) -> u32 {
        self.held.len() as u32
    }

    /// Slots that can be given out now.
    pub(crate) fn free(&self) -> u32 {
        match self.link {
            Link::Ready(_) => self.slots.saturating_sub(self.used()),
            Link::Draining(_) | Link::Disconnected { .. } => 0,
        }
    }

    /// How many of these bytes it need not fetch.
    pub(crate) fn cached_bytes(&self, inputs: &[Artifact]) -> u64 {
        inputs
            .iter()
            .filter(|input| self.cached.contains(&input.digest))
            .map(|input| input.bytes)
            .sum()
    }
}
