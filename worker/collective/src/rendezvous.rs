//! Where the ranks of a gang meet: a TCPStore that rank 0 hosts.
//!
//! Every key begins with the gang's name, and the store says whose it is, so that ranks of different attempts never take each
//! other for their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use cxx::UniquePtr;

use crate::bridge::{Store, host_store, join_store};
use crate::gate::Gate;
use crate::{Error, Limits, watch};

/// Names the gang that a store belongs to. The one key without prefix.
const OWNER: &str = "gang";
/// The address of rank 0's node by which another rank reached it.
const REACHED: &str = "reached";

/// What all threads of one rank know.
pub(crate) struct Member {
    pub(crate) gang: String,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) limits: Limits,
    /// Told when the gang is aborted, and why.
    pub(crate) on_abort: Option<fn(&str)>,
    pub(crate) gate: Arc<Gate>,
    /// The gang is done: nobody's end is a loss any more.
    pub(crate) released: AtomicBool,
    /// Rounds of heartbeats that have been written and read.
    pub(crate) rounds: AtomicU64,
    /// Which ranks have shown a heartbeat.
    pub(crate) present: Vec<AtomicBool>,
    /// Neither speaks nor hears, like a process that was stopped.
    #[cfg(test)]
    pub(crate) stopped: AtomicBool,
}

impl Member {
    pub(crate) fn new(gang: &str, rank: usize, world_size: usize, limits: Limits) -> Arc<Self> {
        Self::with(gang, rank, world_size, limits, None)
    }

    /// The same with somebody to be told when the gang is aborted.
    pub(crate) fn with(
        gang: &str,
        rank: usize,
        world_size: usize,
        limits: Limits,
        on_abort: Option<fn(&str)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            gang: gang.to_owned(),
            rank,
            world_size,
            limits,
            on_abort,
            gate: Arc::default(),
            released: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            present: (0..world_size).map(|_| AtomicBool::new(false)).collect(),
            #[cfg(test)]
            stopped: AtomicBool::new(false),
        })
    }

    /// The other ranks.
    pub(crate) fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.rank;
        (0..self.world_size).filter(move |rank| *rank != me)
    }

    /// A key of this gang's own.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.gang)
    }

    /// Why this rank is not in the gang.
    pub(crate) fn turned_away(&self, reason: impl Into<String>) -> Error {
        Error::Join {
            gang: self.gang.clone(),
            rank: self.rank,
            reason: reason.into(),
        }
    }

    /// Does `work`, which may block for ever, on a thread of its own, and returns early when the gang ends or after `limit`, one
    /// of [`Limits`]. The thread is then left behind; the process will not outlive the gang by much.
    pub(crate) fn within<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, Error> {
        let slot = Arc::new(Mutex::new(None));
        let (fill, gate) = (slot.clone(), self.gate.clone());
        self.spawn("gang-join", move || {
            let result =
                catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("it panicked".to_owned()));
            *fill.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            gate.knock();
        })?;
        let taken = || slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        match self.gate.wait_at_most(limit, taken)? {
            Some(Ok(done)) => Ok(done),
            // Where the watch runs, it says by then which rank is gone.
            Some(Err(reason)) => {
                self.gate.wait_at_most(self.limits.grace(), || None::<()>)?;
                Err(self.turned_away(reason))
            }
            None => Err(self.turned_away(self.late(limit))),
        }
    }

    /// Waits until all ranks have shown that they live.
    pub(crate) fn together(&self) -> Result<(), Error> {
        let limit = self.limits.join;
        let here = || {
            self.peers()
                .all(|rank| self.present[rank].load(Ordering::Relaxed))
                .then_some(())
        };
        let met = self.gate.wait_at_most(limit, here)?;
        met.ok_or_else(|| self.turned_away(self.late(limit)))
    }

    /// Who has not come in time.
    fn late(&self, limit: Duration) -> String {
        let absent: Vec<String> = self
            .peers()
            .filter(|rank| !self.present[*rank].load(Ordering::Relaxed))
            .map(|rank| rank.to_string())
            .collect();
        let limit = limit.as_secs_f64();
        if absent.is_empty() {
            format!(
                "the ranks met but did not connect within {limit:.1} s; each must be able to open connections to all others"
            )
        } else {
            format!("after {limit:.1} s still without rank {}", absent.join(", "))
        }
    }

    pub(crate) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map(drop)
            .map_err(|error| self.turned_away(format!("a thread cannot be started: {error}")))
    }
}

/// This rank's place at the meeting. While it lives, the others see this rank's heartbeat and it sees theirs.
pub(crate) struct Rendezvous {
    member: Arc<Member>,
    store: Arc<UniquePtr<Store>>,
    /// The address of this node by which it reaches rank 0; rank 0 learns its own from the others.
    local: Option<IpAddr>,
    /// Closed when the last word of this rank has been said.
    silent: mpsc::Receiver<()>,
}

impl Rendezvous {
    /// Rank 0: opens the store on a free port of every address.
    pub(crate) fn host(member: Arc<Member>) -> Result<Self, Error> {
        let join = member.limits.join;
        let (limit, owner) = (milliseconds(join), owner(&member));
        let store = member.within(join, move || {
            let store =
                host_store(limit).map_err(|error| format!("its store cannot be opened: {}", error.what()))?;
            store
                .set(OWNER, owner.as_bytes())
                .map_err(|error| format!("its store does not work: {}", error.what()))?;
            Ok(store)
        })?;
        // Alone, there is nobody who knows better.
        let local = (member.world_size == 1).then_some(Ipv4Addr::LOCALHOST.into());
        Self::start(member, store, local)
    }

    /// Any other rank: comes to where rank 0 waits, `host:port`.
    pub(crate) fn join(member: Arc<Member>, address: &str) -> Result<Self, Error> {
        let (local, remote) = route(address).map_err(|error| {
            member.turned_away(format!(
                "there is no way to rank 0 at {address:?} (host:port): {error}"
            ))
        })?;
        let reach = member.limits.reach;
        let limit = milliseconds(reach);
        let (owner, reached) = (owner(&member), member.key(REACHED));
        let store = member.within(reach, move || {
            let gone =
                |error: cxx::Exception| format!("rank 0 does not answer at {remote}: {}", error.what());
            let store = join_store(&remote.ip().to_string(), remote.port(), limit).map_err(gone)?;
            let found = store.get(OWNER, limit).map_err(gone)?;
            if found != owner.as_bytes() {
                let found = String::from_utf8_lossy(&found).into_owned();
                return Err(format!("{remote} is the meeting of {found}, not of {owner}"));
            }
            store
                .set(&reached, remote.ip().to_string().as_bytes())
                .map_err(gone)?;
            Ok(store)
        })?;
        Self::start(member, store, Some(local))
    }

    fn start(member: Arc<Member>, store: UniquePtr<Store>, local: Option<IpAddr>) -> Result<Self, Error> {
        let store = Arc::new(store);
        let (seat, shared) = (member.key(&format!("seat/{}", member.rank)), store.clone());
        let rank = member.rank;
        let line = member.within(member.limits.reach, move || {
            let broken =
                |error: cxx::Exception| format!("the store of rank 0 does not work: {}", error.what());
            if shared.add(&seat, 1).map_err(broken)? != 1 {
                return Err(format!("rank {rank} is taken by another process"));
            }
            shared.another().map_err(broken)
        })?;
        let (said, silent) = mpsc::channel();
        watch::start(&member, line, said)?;
        Ok(Self {
            member,
            store,
            local,
            silent,
        })
    }

    pub(crate) fn rank(&self) -> usize {
        self.member.rank
    }

    pub(crate) fn world_size(&self) -> usize {
        self.member.world_size
    }

    pub(crate) fn limits(&self) -> Limits {
        self.member.limits
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.member.gate
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Shared, for work that goes [`Member::within`].
    pub(crate) fn store(&self) -> Arc<UniquePtr<Store>> {
        self.store.clone()
    }

    /// TCP port of the store.
    pub(crate) fn port(&self) -> u16 {
        self.store.port()
    }

    /// The address of this node that the others can reach: where this rank's route to rank 0 begins, and for rank 0 where
    /// the others' end. Loopback if all are on one node. Rank 0 waits for another rank to come.
    pub(crate) fn own_address(&self) -> Result<IpAddr, Error> {
        if let Some(local) = self.local {
            return Ok(local);
        }
        let (store, key) = (self.store(), self.member.key(REACHED));
        let join = self.member.limits.join;
        let address = self.member.within(join, {
            let member = self.member.clone();
            move || store.get(&key, milliseconds(join)).map_err(|_| member.late(join))
        })?;
        String::from_utf8_lossy(&address).parse().map_err(|error| {
            self.member
                .turned_away(format!("another rank gave a wrong address: {error}"))
        })
    }

    /// The gang is done, and every rank knows.
    pub(crate) fn release(&self) {
        self.member.released.store(true, Ordering::Relaxed);
        self.member.gate.knock();
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        let member = &self.member;
        if !member.released.load(Ordering::Relaxed) {
            member
                .gate
                .abort(&format!("rank {} ended before the others", member.rank));
        }
        // Rank 0 keeps the store up until the others have heard; they need not wait for a rank 0 that answers no more.
        let limit = if member.rank == 0 || member.released.load(Ordering::Relaxed) {
            member.limits.grace()
        } else {
            member.limits.beat
        };
        let _ = self.silent.recv_timeout(limit);
    }
}

fn owner(member: &Member) -> String {
    format!("gang {} of {}", member.gang, member.world_size)
}

pub(crate) fn milliseconds(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// The two ends of the way to `address`: the local one and the first of the remote ones to which there is a route.
fn route(address: &str) -> std::io::Result<(IpAddr, SocketAddr)> {
    let mut last = std::io::Error::other("the name has no address");
    for remote in address.to_socket_addrs()? {
        // Nothing is sent: connecting a datagram socket only looks the route up.
        let any: IpAddr = if remote.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let connected = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(remote)?;
            socket.local_addr()
        });
        match connected {
            Ok(local) => return Ok((local.ip(), remote)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
