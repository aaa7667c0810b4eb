//! Between GPUs: NCCL, loaded by name when the first gang on GPUs starts (`libnccl.so`, and the driver's `libcuda.so`).
//!
//! Operations run on a stream of their own (`streams`), so they overlap with what torch computes; the communicator
//! (`comm`) never blocks the host, and a thread watches it and aborts it when the gang is over.

mod comm;
mod streams;
#[cfg(test)]
mod tests;

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use cudarc::nccl::sys::{self, ncclComm_t, ncclDataType_t, ncclRedOp_t, ncclResult_t};
use tch::{Device, Kind, Tensor};

use crate::Error;
use crate::gang::{Gang, Transport};
use crate::gate::{Failure, Gate};
use crate::pending::Started;
use crate::rendezvous::{Rendezvous, milliseconds};
use comm::Comm;
use streams::{Event, Streams};

/// Between two looks at something that NCCL or the GPU does.
const POLL: Duration = Duration::from_micros(100);

/// Whether NCCL and the CUDA driver can be loaded.
pub(crate) fn available() -> bool {
    // SAFETY: loading the two libraries runs their initialisers, as any program that links them does.
    unsafe { sys::is_culib_present() && cudarc::driver::sys::is_culib_present() }
}

/// Connects this rank's GPU, number `ordinal`, to those of all others. Buffers lie on `device`, its name in torch.
pub(crate) fn join(rendezvous: Rendezvous, ordinal: usize, device: Device) -> Result<Gang, Error> {
    let member = rendezvous.member().clone();
    member.together()?;
    let (store, key) = (rendezvous.store(), member.key("nccl"));
    let joining = member.clone();
    let (comm, streams) = member.within(member.limits.reach, move || {
        let lost = |error: cxx::Exception| format!("rank 0 did not say where NCCL meets: {}", error.what());
        let streams = Streams::new(ordinal)?;
        let id = if joining.rank == 0 {
            let id = comm::unique_id()?;
            store.set(&key, &id).map_err(lost)?;
            id.to_vec()
        } else {
            store
                .get(&key, milliseconds(joining.limits.reach))
                .map_err(lost)?
        };
        let comm = Comm::join(&joining, &id)
            .map_err(|failure| joining.gate.reason(failure, joining.limits.grace()).0)?;
        Ok((comm, streams))
    })?;
    let transport = Nccl {
        comm,
        streams: Arc::new(streams),
        gate: rendezvous.gate().clone(),
        device,
    };
    Ok(Gang::new(rendezvous, Box::new(transport)))
}

struct Nccl {
    comm: Arc<Comm>,
    streams: Arc<Streams>,
    gate: Arc<Gate>,
    device: Device,
}

/// One buffer, as NCCL sees it.
struct Buffer {
    data: *mut c_void,
    count: usize,
    kind: ncclDataType_t,
    stream: sys::cudaStream_t,
}

impl Nccl {
    /// Puts an operation behind all that torch has queued so far, on the stream of operations.
    fn start(
        &self,
        tensor: &Tensor,
        call: impl FnOnce(Buffer, ncclComm_t) -> ncclResult_t,
    ) -> Result<Box<dyn Started>, Failure> {
        let buffer = Buffer {
            data: tensor.data_ptr(),
            count: tensor.numel(),
            kind: kind(tensor)?,
            stream: self.streams.side().cast(),
        };
        self.streams.fork()?;
        self.comm.enqueue(|comm| call(buffer, comm))?;
        Ok(Box::new(Operation {
            event: self.streams.mark()?,
            joined: false,
            comm: self.comm.clone(),
            streams: self.streams.clone(),
            gate: self.gate.clone(),
            _tensor: tensor.shallow_clone(),
        }))
    }
}

impl Transport for Nccl {
    fn device(&self) -> Device {
        self.device
    }

    fn sum(&self, buffer: &Tensor) -> Result<Box<dyn Started>, Failure> {
        // SAFETY: the buffer has so many elements of that kind, on this communicator's GPU; the operation keeps it alive.
        self.start(buffer, |b, comm| unsafe {
            sys::ncclAllReduce(
                b.data,
                b.data,
                b.count,
                b.kind,
                ncclRedOp_t::ncclSum,
                comm,
                b.stream,
            )
        })
    }

    fn broadcast(&self, buffer: &Tensor, root: usize) -> Result<Box<dyn Started>, Failure> {
        // SAFETY: as above.
        self.start(buffer, |b, comm| unsafe {
            sys::ncclBroadcast(b.data, b.data, b.count, b.kind, as_int(root), comm, b.stream)
        })
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        self.comm.end();
    }
}

/// An operation that was queued.
struct Operation {
    event: Event,
    /// torch's stream waits for it.
    joined: bool,
    comm: Arc<Comm>,
    streams: Arc<Streams>,
    gate: Arc<Gate>,
    /// Its memory is in use.
    _tensor: Tensor,
}

impl Operation {
    fn join(&mut self) -> Result<(), Failure> {
        if !self.joined {
            self.streams.join(&self.event)?;
            self.joined = true;
        }
        Ok(())
    }
}

impl Started for Operation {
    fn wait(&mut self) -> Result<(), Failure> {
        self.join()?;
        Ok(self.gate.check()?)
    }

    fn synchronize(&mut self) -> Result<(), Failure> {
        while !self.event.is_over()? {
            self.comm.state()?;
            self.gate.wait_at_most(POLL, || None::<()>)?;
        }
        self.wait()
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // torch gives memory that nobody holds to what it computes next on its stream, which therefore must come after.
        if self.gate.check().is_ok() {
            let _ = self.join();
        }
    }
}

fn kind(tensor: &Tensor) -> Result<ncclDataType_t, Failure> {
    Ok(match tensor.kind() {
        Kind::Float => ncclDataType_t::ncclFloat32,
        Kind::Double => ncclDataType_t::ncclFloat64,
        Kind::Half => ncclDataType_t::ncclFloat16,
        Kind::BFloat16 => ncclDataType_t::ncclBfloat16,
        Kind::Int64 => ncclDataType_t::ncclInt64,
        Kind::Int => ncclDataType_t::ncclInt32,
        Kind::Int8 => ncclDataType_t::ncclInt8,
        Kind::Uint8 => ncclDataType_t::ncclUint8,
        kind => return Err(Failure::Broken(format!("NCCL knows no tensors of kind {kind:?}"))),
    })
}

/// Ranks are few.
fn as_int(rank: usize) -> c_int {
    c_int::try_from(rank).unwrap_or(c_int::MAX)
}
