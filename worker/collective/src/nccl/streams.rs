//! The order between what torch computes on a GPU and what NCCL reduces there.

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUcontext, CUevent, CUevent_flags, CUevent_wait_flags, CUresult, CUstream};

use crate::gate::Failure;

/// Where torch computes: the legacy default stream. torch leaves it only for a program that asks for another, which tch
/// cannot.
const COMPUTE: CUstream = std::ptr::null_mut();

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Broken(describe(error))
    }
}

/// A stream beside torch's, on which operations run in the order in which they were started.
pub(super) struct Streams {
    /// The one that torch uses on this GPU.
    context: CUcontext,
    side: CUstream,
}

// SAFETY: handles of the driver's, which lets any thread use them.
unsafe impl Send for Streams {}
// SAFETY: as above.
unsafe impl Sync for Streams {}

impl Streams {
    /// On GPU number `ordinal`, which becomes this thread's.
    pub(super) fn new(ordinal: usize) -> Result<Self, String> {
        let on_gpu = |error| format!("GPU {ordinal} cannot be used: {}", describe(error));
        result::init().map_err(on_gpu)?;
        let ordinal = super::as_int(ordinal);
        let device = result::device::get(ordinal).map_err(on_gpu)?;
        // SAFETY: the driver has just named the device. The context is kept until the process ends, as torch does.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(on_gpu)?;
        // SAFETY: it has just been retained.
        unsafe { result::ctx::set_current(context) }.map_err(on_gpu)?;
        // Any other kind of stream would wait for the default stream and hold it up.
        let side = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(on_gpu)?;
        Ok(Self { context, side })
    }

    /// Where operations run.
    pub(super) fn side(&self) -> CUstream {
        self.side
    }

    /// Lets operations that are queued from now on come after all that torch has queued.
    pub(super) fn fork(&self) -> Result<(), DriverError> {
        self.enter()?;
        let event = Event::record(COMPUTE)?;
        // SAFETY: both are alive. The driver keeps what it needs of an event that is destroyed.
        unsafe { result::stream::wait_event(self.side, event.0, WAIT) }
    }

    /// The end of all that is queued beside torch now.
    pub(super) fn mark(&self) -> Result<Event, DriverError> {
        Event::record(self.side)
    }

    /// Lets what torch queues from now on come after `event`.
    pub(super) fn join(&self, event: &Event) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the event is alive.
        unsafe { result::stream::wait_event(COMPUTE, event.0, WAIT) }
    }

    /// The driver's calls concern the GPU of the thread.
    fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the context is never released.
        unsafe { result::ctx::set_current(self.context) }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // SAFETY: nobody else has it. An error means that the GPU is lost, and the stream with it.
        let _ = unsafe { result::stream::destroy(self.side) };
    }
}

const WAIT: CUevent_wait_flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;

/// A point in a stream.
pub(super) struct Event(CUevent);

impl Event {
    fn record(stream: CUstream) -> Result<Self, DriverError> {
        let event = Self(result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING)?);
        // SAFETY: both are alive.
        unsafe { result::event::record(event.0, stream)? };
        Ok(event)
    }

    /// Whether the GPU has come to it.
    pub(super) fn is_over(&self) -> Result<bool, DriverError> {
        // SAFETY: the event is alive.
        match unsafe { result::event::query(self.0) } {
            Ok(()) => Ok(true),
            Err(DriverError(CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: alive until now; the driver waits with its end until the GPU has come to it.
        let _ = unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

fn describe(error: DriverError) -> String {
    let text = error
        .error_string()
        .map(|text| text.to_string_lossy().into_owned());
    format!("CUDA failed: {} ({:?})", text.unwrap_or_default(), error.0)
}
