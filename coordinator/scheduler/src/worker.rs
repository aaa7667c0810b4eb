//! A worker and its slots.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use nettailor_domain::ids::{Digest, Seat, UserName};
use nettailor_domain::labels::Labels;
use nettailor_domain::session::Offer;
use nettailor_domain::stage::Artifact;

use crate::event::SessionNumber;
use crate::pool::{Counted, Make};

/// A worker that has a session, or had one and is waited for.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) slots: u32,
    pub(crate) threads_per_slot: u32,
    pub(crate) version: String,
    pub(crate) make: Make,
    /// Whether it is given work when it is there.
    pub(crate) admitted: bool,
    /// As what it is counted among those that take work.
    pub(crate) counted: Option<Counted>,
    /// Bytes of the inputs of what was placed on it, and how many of these it held already.
    pub(crate) placed_bytes: [u64; 2],
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

/// A slot that is taken.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) state: HoldState,
    /// Who pays for it; nobody for what should not be there.
    pub(crate) payer: Option<UserName>,
    /// Elapsed time since when.
    pub(crate) since: Duration,
}

/// Why a slot is taken.
#[derive(Debug, Clone)]
pub(crate) enum HoldState {
    /// The rank runs.
    Working,
    /// The rank was told to stop; its end was not reported.
    Stopping {
        /// Why, in words.
        reason: String,
        /// When the stop is sent again; a timer is armed.
        again: Duration,
        /// How often it was sent.
        times: u32,
    },
    /// It does not end though it was told to: the slot is given up.
    Lost,
}

impl Worker {
    /// A worker with a new session.
    pub(crate) fn connected(offer: &Offer, session: Session, last_seen_ms: u64) -> Self {
        Self {
            slots: offer.slots,
            threads_per_slot: offer.threads_per_slot,
            make: Make {
                device: offer.device.clone(),
                labels: offer.labels.clone(),
            },
            admitted: true,
            counted: None,
            placed_bytes: [0; 2],
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
            make: Make {
                device: String::new(),
                labels: Labels::default(),
            },
            admitted: true,
            counted: None,
            placed_bytes: [0; 2],
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

    /// Whether it is given work.
    pub(crate) fn takes_work(&self) -> bool {
        self.admitted && matches!(self.link, Link::Ready(_))
    }

    /// Slots that can be given out now.
    pub(crate) fn free(&self) -> u32 {
        if self.takes_work() {
            self.slots.saturating_sub(self.used())
        } else {
            0
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
