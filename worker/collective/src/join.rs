//! Which gang a trainer needs, and how it gets into it.

use std::io;

use tch::Device;

use crate::rendezvous::{Member, Rendezvous};
use crate::{Collective, Error, Limits, Solo, gloo, nccl};

/// Who this rank is.
#[derive(Debug, Clone)]
pub struct GangSettings {
    /// Names the attempt. Ranks of other names are turned away.
    pub gang: String,
    /// This rank, from 0.
    pub rank: usize,
    /// Ranks in the gang.
    pub world_size: usize,
    /// Where this rank computes. All ranks compute on the same kind of device.
    pub device: Device,
    /// How long ranks wait for each other.
    pub limits: Limits,
    /// Called once, on a thread of the gang's, when a rank is lost or the gang is aborted: for whoever may be in the middle of
    /// something long and will not ask for a while.
    pub on_abort: Option<fn(&str)>,
}

/// Joins a gang and returns when all its ranks are there. Rank 0 calls `meeting` with the TCP port where it waits, on all
/// addresses of the node; the others ask `address` where that is, as `host:port`. The address must be one of rank 0's own
/// node: gloo listens there too. (NCCL chooses among the node's interfaces by itself; `NCCL_SOCKET_IFNAME` overrules it.)
///
/// # Errors
/// [`Error::Join`] when the ranks do not come together within [`Limits::join`], when this one is not of the gang that it
/// meets, and when there is no NCCL for its GPU; [`Error::Aborted`] when one is lost meanwhile.
pub fn join(
    settings: &GangSettings,
    meeting: &mut dyn FnMut(u16),
    address: impl FnOnce() -> io::Result<String>,
) -> Result<Box<dyn Collective>, Error> {
    Error::unless_rank(settings.rank, settings.world_size)?;
    if settings.world_size == 1 {
        return Ok(Box::new(Solo::new()));
    }
    let member = Member::with(
        &settings.gang,
        settings.rank,
        settings.world_size,
        settings.limits,
        settings.on_abort,
    );
    let ordinal = match settings.device {
        Device::Cuda(ordinal) if !nccl::available() => {
            return Err(member.turned_away(format!(
                "device {ordinal} is a GPU, but libnccl.so or libcuda.so cannot be loaded; put them where the dynamic linker \
                 looks, or run on the CPU"
            )));
        }
        Device::Cuda(ordinal) => Some(ordinal),
        _ => None,
    };
    let rendezvous = if settings.rank == 0 {
        let rendezvous = Rendezvous::host(member)?;
        meeting(rendezvous.port());
        rendezvous
    } else {
        let address = address()
            .map_err(|error| member.turned_away(format!("nobody said where rank 0 waits: {error}")))?;
        Rendezvous::join(member, &address)?
    };
    let gang = match ordinal {
        Some(ordinal) => nccl::join(rendezvous, ordinal, settings.device)?,
        None => gloo::join(rendezvous)?,
    };
    Ok(Box::new(gang))
}

/// GPU `ordinal` as a gang of one over NCCL, where [`join`] would not bother: shows that NCCL can be loaded and does what it
/// should on this machine.
///
/// # Errors
/// [`Error::Join`] where there is no NCCL or no such GPU.
pub fn alone_over_nccl(ordinal: usize) -> Result<Box<dyn Collective>, Error> {
    let member = Member::new("alone#1", 0, 1, Limits::default());
    if !nccl::available() {
        return Err(member.turned_away("libnccl.so or libcuda.so cannot be loaded".to_owned()));
    }
    let gang = nccl::join(Rendezvous::host(member)?, ordinal, Device::Cuda(ordinal))?;
    Ok(Box::new(gang))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::testing::{Meeting, PATIENT};

    fn settings(rank: usize, world_size: usize, device: Device) -> GangSettings {
        GangSettings {
            gang: "stage#1".to_owned(),
            rank,
            world_size,
            device,
            limits: PATIENT,
            on_abort: None,
        }
    }

    /// Alone, there is nobody to meet.
    fn join_alone(settings: &GangSettings) -> Result<Box<dyn Collective>, Error> {
        join(settings, &mut |_| panic!("no meeting"), || panic!("no address"))
    }

    #[test]
    fn ranks_on_cpus_meet_and_leave() {
        let meeting = Meeting::new(2, PATIENT);
        conformance::check_leave(2, |rank| {
            join(
                &settings(rank, 2, Device::Cpu),
                &mut |port| meeting.tell(port),
                || Ok(meeting.ask()),
            )
            .expect("a gang")
        });
    }

    #[test]
    fn a_single_rank_meets_nobody_whatever_its_device() {
        for device in [Device::Cpu, Device::Cuda(0)] {
            let gang = join_alone(&settings(0, 1, device)).expect("a gang of one");
            assert_eq!(gang.world_size(), 1);
        }
    }

    #[test]
    fn a_rank_belongs_to_its_gang() {
        let error = join_alone(&settings(2, 2, Device::Cpu))
            .map(|_| ())
            .expect_err("no rank");
        assert!(
            matches!(
                error,
                Error::NoSuchRank {
                    root: 2,
                    world_size: 2
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn an_address_that_nobody_tells_is_missed() {
        let error = join(
            &settings(1, 2, Device::Cpu),
            &mut |_| panic!("rank 1 hosts nothing"),
            || Err(io::ErrorKind::UnexpectedEof.into()),
        )
        .map(|_| ())
        .expect_err("no address");
        assert!(
            error.to_string().contains("nobody said where rank 0 waits"),
            "{error}"
        );
    }
}
