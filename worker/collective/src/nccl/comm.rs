//! A communicator of NCCL's, in its non-blocking mode: every call returns at once, and what it began is asked for.

use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::nccl::result;
use cudarc::nccl::sys::{self, ncclComm_t, ncclResult_t, ncclUniqueId};

use super::{POLL, as_int};
use crate::gate::{Aborted, Failure};
use crate::rendezvous::Member;

/// What `NCCL_CONFIG_INITIALIZER` writes into a number that is left to NCCL.
const UNDEFINED: c_int = c_int::MIN;
/// What it writes into `magic`.
const MAGIC: u32 = 0xcafe_beef;
/// The version whose `ncclConfig_t` this is (2.30); NCCL reads as much of it as it knows.
const VERSION: u32 = 23_000;

/// Where the ranks' NCCLs meet, as rank 0's tells.
pub(super) fn unique_id() -> Result<[u8; 128], String> {
    let id = result::get_uniqueid().map_err(|error| describe(error.0, std::ptr::null_mut()))?;
    // Bytes, in C's signed form.
    Ok(id.internal.map(|byte| byte as u8))
}

pub(super) struct Comm {
    /// Gone once it was aborted.
    raw: Mutex<Option<Raw>>,
    member: Arc<Member>,
    ended: AtomicBool,
}

#[derive(Clone, Copy)]
struct Raw(ncclComm_t);

// SAFETY: NCCL lets any thread call; one at a time, which the mutex sees to.
unsafe impl Send for Raw {}

impl Comm {
    /// Returns when all ranks have joined.
    pub(super) fn join(member: &Arc<Member>, id: &[u8]) -> Result<Arc<Self>, Failure> {
        let mut unique = ncclUniqueId { internal: [0; 128] };
        if id.len() != unique.internal.len() {
            return Err(Failure::Broken(format!(
                "rank 0's id for NCCL has {} bytes",
                id.len()
            )));
        }
        for (to, from) in unique.internal.iter_mut().zip(id) {
            *to = *from as c_char;
        }
        let mut config = non_blocking();
        let mut raw = std::ptr::null_mut();
        // SAFETY: all pointers are to locals that outlive the call; NCCL copies what it keeps.
        let begun = unsafe {
            sys::ncclCommInitRankConfig(
                &mut raw,
                as_int(member.world_size),
                unique,
                as_int(member.rank),
                &mut config,
            )
        };
        check(begun, raw)?;
        let comm = Arc::new(Self {
            raw: Mutex::new(Some(Raw(raw))),
            member: member.clone(),
            ended: AtomicBool::new(false),
        });
        let guarded = comm.clone();
        let joined = member
            .spawn("gang-nccl", move || guarded.guard())
            .map_err(|error| Failure::Broken(error.to_string()))
            .and_then(|()| comm.settle());
        if joined.is_err() {
            comm.end();
        }
        joined.map(|()| comm)
    }

    /// Queues what `call` asks for.
    pub(super) fn enqueue(&self, call: impl FnOnce(ncclComm_t) -> ncclResult_t) -> Result<(), Failure> {
        {
            let raw = self.lock();
            let comm = self.alive(*raw)?;
            check(call(comm), comm)?;
        }
        self.settle()
    }

    /// Whether NCCL has done what the host asked for (the GPU may have to do it yet); an error once the connection to
    /// another rank broke.
    pub(super) fn state(&self) -> Result<bool, Failure> {
        let raw = self.lock();
        let comm = self.alive(*raw)?;
        let mut state = ncclResult_t::ncclSuccess;
        // SAFETY: the communicator has not been aborted, and cannot be while the lock is held.
        check(unsafe { sys::ncclCommGetAsyncError(comm, &mut state) }, comm)?;
        check(state, comm)?;
        Ok(state != ncclResult_t::ncclInProgress)
    }

    /// Frees everything. What is under way on the GPU ends without a result; nothing is, in a gang that was left. (Aborting
    /// is the one way to end a communicator that waits for nobody.)
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.member.gate.knock();
        if let Some(Raw(comm)) = self.lock().take() {
            // SAFETY: it is alive, and nobody will see it again. There is nothing to be done about an error.
            let _ = unsafe { result::comm_abort(comm) };
        }
    }

    /// Waits until NCCL is ready for the next call.
    fn settle(&self) -> Result<(), Failure> {
        while !self.state()? {
            self.member.gate.wait_at_most(POLL, || None::<()>)?;
        }
        Ok(())
    }

    /// Looks for errors that strike between calls, and ends the communicator when the gang is over: torch may be waiting for
    /// an operation that will never end otherwise.
    fn guard(&self) {
        let ended = || self.ended.load(Ordering::Relaxed).then_some(());
        let limits = self.member.limits;
        while !matches!(self.member.gate.wait_at_most(limits.beat, ended), Ok(Some(()))) {
            if self.member.gate.check().is_err() {
                return self.end();
            }
            if let Err(failure) = self.state() {
                self.member.gate.reason(failure, limits.grace());
            }
        }
    }

    fn alive(&self, raw: Option<Raw>) -> Result<ncclComm_t, Failure> {
        raw.map(|Raw(comm)| comm).ok_or_else(|| {
            let ended = || Aborted("NCCL has ended".to_owned());
            Failure::Aborted(self.member.gate.check().err().unwrap_or_else(ended))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Raw>> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(result: ncclResult_t, comm: ncclComm_t) -> Result<(), Failure> {
    match result {
        ncclResult_t::ncclSuccess | ncclResult_t::ncclInProgress => Ok(()),
        error => Err(Failure::Broken(describe(error, comm))),
    }
}

fn describe(error: ncclResult_t, comm: ncclComm_t) -> String {
    // SAFETY: both return strings of NCCL's own that stay; the communicator may be null.
    let [what, detail] =
        unsafe { [sys::ncclGetErrorString(error), sys::ncclGetLastError(comm)] }.map(|text| {
            if text.is_null() {
                String::new()
            } else {
                // SAFETY: not null, and NCCL ends its strings.
                unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
            }
        });
    format!("NCCL failed: {what} ({})", detail.trim())
}

fn non_blocking() -> sys::ncclConfig_t {
    sys::ncclConfig_t {
        size: size_of::<sys::ncclConfig_t>(),
        magic: MAGIC,
        version: VERSION,
        blocking: 0,
        cgaClusterSize: UNDEFINED,
        minCTAs: UNDEFINED,
        maxCTAs: UNDEFINED,
        netName: std::ptr::null(),
        splitShare: UNDEFINED,
        trafficClass: UNDEFINED,
        commName: std::ptr::null(),
        collnetEnable: UNDEFINED,
        CTAPolicy: UNDEFINED,
        shrinkShare: UNDEFINED,
        nvlsCTAs: UNDEFINED,
        nChannelsPerNetPeer: UNDEFINED,
        nvlinkCentricSched: UNDEFINED,
        graphUsageMode: UNDEFINED,
        numRmaCtx: UNDEFINED,
        maxP2pPeers: UNDEFINED,
    }
}
