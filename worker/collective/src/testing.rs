//! Gangs whose ranks are threads of one test.

use std::sync::OnceLock;
use std::time::Duration;

use crate::Limits;
use crate::conformance::Muster;
use crate::rendezvous::{Member, Rendezvous};

/// Beats fast, so that an abort travels in no time; a busy machine is not taken for a loss.
pub(crate) const PATIENT: Limits = Limits {
    beat: Duration::from_millis(20),
    silence: Duration::from_secs(20),
    reach: Duration::from_secs(60),
    join: Duration::from_secs(60),
};

/// For tests of a loss.
pub(crate) const STRICT: Limits = Limits {
    beat: Duration::from_millis(100),
    silence: Duration::from_secs(1),
    reach: Duration::from_secs(60),
    join: Duration::from_secs(60),
};

/// Where the ranks of one gang tell each other what the coordinator tells trainers.
pub(crate) struct Meeting {
    world_size: usize,
    limits: Limits,
    address: OnceLock<String>,
    told: Muster,
}

impl Meeting {
    pub(crate) fn new(world_size: usize, limits: Limits) -> Self {
        Self {
            world_size,
            limits,
            address: OnceLock::new(),
            told: Muster::new(world_size),
        }
    }

    /// By rank 0: the others may come.
    pub(crate) fn tell(&self, port: u16) {
        self.address.set(format!("localhost:{port}")).expect("one rank 0");
        self.told.wait();
    }

    /// By the others: waits for rank 0.
    pub(crate) fn ask(&self) -> String {
        self.told.wait();
        self.address.get().expect("told before the barrier").clone()
    }

    /// The place of `rank`.
    pub(crate) fn rendezvous(&self, rank: usize) -> Rendezvous {
        let member = Member::new("stage#1", rank, self.world_size, self.limits);
        if rank == 0 {
            let rendezvous = Rendezvous::host(member).expect("a store");
            self.tell(rendezvous.port());
            rendezvous
        } else {
            Rendezvous::join(member, &self.ask()).expect("a way to rank 0")
        }
    }
}
