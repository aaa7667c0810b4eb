//! What passes between the coordinator and a worker agent, on either side of the wire.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

use crate::architecture::Selection;
use crate::ids::{Digest, InvalidId, Seat};
use crate::labels::Labels;
use crate::stage::{Artifact, StageResult, StageSpec};

/// A worker whose stream broke has this long to come back before its attempts are lost, unless the coordinator is told otherwise.
pub const REATTACH: Duration = Duration::from_millis(500);

/// Either end of a worker's stream asks a silent peer for a sign of life this often, and gives the connection up if none comes
/// for as long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A rank of a gang that shows nothing for so long is lost to the others.
pub const RANK_SILENCE: Duration = Duration::from_secs(3);

/// A worker that says nothing for so long is disconnected, unless the coordinator is told otherwise.
pub const WORKER_SILENCE: Duration = Duration::from_secs(4);

/// Where it was the coordinator that went away, workers have this long to find it again, unless it is told otherwise.
pub const GRACE: Duration = Duration::from_secs(20);

// Who is nearest notices first: a broken stream, then ranks each other, then the coordinator a worker, which is lost within five
// seconds; a coordinator that was away waits longer, and last comes a stage's deadline, of a minute at least.
const _: () = {
    let lost = WORKER_SILENCE.as_millis() + REATTACH.as_millis();
    assert!(REATTACH.as_millis() < RANK_SILENCE.as_millis());
    assert!(RANK_SILENCE.as_millis() < WORKER_SILENCE.as_millis());
    assert!(2 * KEEP_ALIVE.as_millis() <= WORKER_SILENCE.as_millis());
    assert!(lost <= 5_000 && lost < GRACE.as_millis() && GRACE.as_millis() < 60_000);
};

/// What a worker offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Trainers it runs at a time.
    pub slots: u32,
    /// CPU threads per slot.
    pub threads_per_slot: u32,
    /// "cpu", or the name of the GPU.
    pub device: String,
    /// Digests in its blob cache.
    pub cached: Vec<Digest>,
    /// Seats whose rank it still runs, or whose end it has reported without being acknowledged.
    pub seats: Vec<Seat>,
    /// The agent's version.
    pub version: String,
    /// It takes no new work.
    pub draining: bool,
    /// What jobs may ask for.
    pub labels: Labels,
}

/// Everything an agent needs to run one rank of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Which rank of which attempt.
    pub seat: Seat,
    /// Ranks of the attempt.
    pub world_size: u32,
    /// What to do.
    pub spec: StageSpec,
    /// Backbone weights; none for a source stage.
    pub backbone: Option<Artifact>,
    /// Data archive.
    pub data: Artifact,
    /// Results the trainer reads: see [`crate::trainer::Assignment::parents`].
    pub parents: Vec<StageResult>,
    /// The choice, for a select stage.
    pub selection: Option<Selection>,
    /// The checkpoint that an earlier attempt left, to go on from.
    pub checkpoint: Option<Artifact>,
    /// Rank 0 leaves a checkpoint at the end of an epoch, not more often than this, seconds; 0 for every epoch.
    pub checkpoint_seconds: u32,
    /// Task and stage in words.
    pub description: String,
}

/// Where rank 0 of a gang waits for the others: `host:port`, an IPv6 host in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_name = |host: &str| {
            let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
            !host.is_empty() && host.bytes().all(allowed)
        };
        let is_host = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse::<Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        match text.rsplit_once(':') {
            Some((host, port)) if is_host(host) && is_port(port) => Ok(Self(text.to_owned())),
            _ => Err(InvalidId {
                kind: "address",
                text: text.to_owned(),
                expected: "host:port, an IPv6 host in brackets",
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
