//! Between CPUs: libtorch's ProcessGroupGloo.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cxx::UniquePtr;
use tch::{Device, Tensor};

use crate::Error;
use crate::bridge::{self, Outcome, join_gloo};
use crate::gang::{Gang, Transport};
use crate::gate::{Failure, Gate};
use crate::pending::Started;
use crate::rendezvous::{Rendezvous, milliseconds};

/// gloo's own limit on an operation. Ranks may compute for any time between two of them, and lost ones are noticed by their
/// heartbeats, so it must never be reached.
const NEVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Connects this rank to all others, on the address by which they reach its node.
pub(crate) fn join(rendezvous: Rendezvous) -> Result<Gang, Error> {
    let address = rendezvous.own_address()?.to_string();
    let member = rendezvous.member().clone();
    member.together()?;
    let (rank, world_size) = (as_i32(member.rank), as_i32(member.world_size));
    let (store, prefix) = (rendezvous.store(), member.key("gloo"));
    let group = member.within(member.limits.reach, move || {
        join_gloo(&store, &prefix, &address, rank, world_size, milliseconds(NEVER)).map_err(|error| {
            format!(
                "gloo cannot connect from {address}, the address by which the others reach this node; rank 0 must be \
                 advertised under an address of its own node: {}",
                error.what()
            )
        })
    })?;
    let transport = Gloo {
        gate: rendezvous.gate().clone(),
        group,
    };
    Ok(Gang::new(rendezvous, Box::new(transport)))
}

struct Gloo {
    gate: Arc<Gate>,
    group: UniquePtr<bridge::Gloo>,
}

impl Gloo {
    fn start(
        &self,
        operation: impl FnOnce(Box<Outcome>) -> Result<(), cxx::Exception>,
    ) -> Result<Box<dyn Started>, Failure> {
        let outcome = Outcome::new(self.gate.clone());
        operation(Box::new(outcome.clone())).map_err(|error| broken(error.what()))?;
        Ok(Box::new(outcome))
    }
}

impl Transport for Gloo {
    fn device(&self) -> Device {
        Device::Cpu
    }

    fn sum(&self, buffer: &Tensor) -> Result<Box<dyn Started>, Failure> {
        self.start(|outcome| self.group.sum(bridge::tensor(buffer), outcome))
    }

    fn broadcast(&self, buffer: &Tensor, root: usize) -> Result<Box<dyn Started>, Failure> {
        self.start(|outcome| {
            self.group
                .broadcast(bridge::tensor(buffer), as_i32(root), outcome)
        })
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        // Of a gang that was aborted, operations may hang as long as a lost rank keeps its connections open, and destroying
        // the group waits for them: then a thread does it that nobody waits for. (Without a thread, it is done here.)
        if self.gate.check().is_err() {
            let group = std::mem::replace(&mut self.group, UniquePtr::null());
            let undertaker = thread::Builder::new().name("gang-end".to_owned());
            let _ = undertaker.spawn(move || drop(group));
        }
    }
}

impl Started for Outcome {
    fn wait(&mut self) -> Result<(), Failure> {
        Outcome::wait(self)?.map_err(|error| broken(&error))
    }

    fn synchronize(&mut self) -> Result<(), Failure> {
        self.wait()
    }
}

fn broken(error: &str) -> Failure {
    Failure::Broken(format!("gloo lost its connection to another rank: {error}"))
}

/// Ranks are few.
fn as_i32(rank: usize) -> i32 {
    i32::try_from(rank).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::conformance;
    use crate::testing::{Meeting, PATIENT, STRICT};

    fn gang(meeting: &Meeting, rank: usize) -> Gang {
        join(meeting.rendezvous(rank)).expect("a gang")
    }

    #[test]
    fn conforms() {
        for world_size in [1, 2, 4] {
            let meeting = Meeting::new(world_size, PATIENT);
            conformance::check(world_size, |rank| Box::new(gang(&meeting, rank)));
        }
    }

    #[test]
    fn is_left() {
        for world_size in [1, 2, 4] {
            let meeting = Meeting::new(world_size, PATIENT);
            conformance::check_leave(world_size, |rank| Box::new(gang(&meeting, rank)));
        }
    }

    #[test]
    fn a_silent_rank_is_lost() {
        for lost in [0, 2] {
            let meeting = Meeting::new(3, STRICT);
            let reason = format!("rank {lost} was silent for 1.0 s");
            conformance::check_loss(
                3,
                lost,
                &reason,
                |rank| gang(&meeting, rank),
                |gang| {
                    gang.rendezvous().member().stopped.store(true, Ordering::Relaxed);
                    Some(gang)
                },
            );
        }
    }

    #[test]
    fn a_rank_that_ends_too_early_is_lost() {
        for lost in [0, 1] {
            let meeting = Meeting::new(3, PATIENT);
            let reason = format!("rank {lost} ended before the others");
            conformance::check_loss(
                3,
                lost,
                &reason,
                |rank| gang(&meeting, rank),
                |gang| {
                    drop(gang);
                    None
                },
            );
        }
    }
}
