//! What belongs to the process: floating-point mode, threads, allocator, device, clock. Everything that reads the machine
//! is here; the rest of the crate gets it as values.

use std::time::Duration;

use tch::Device;

/// Prepares the process for `threads` threads of computation and finds its device. Call it first in `main`: threads
/// inherit the floating-point mode of the thread that starts them.
pub fn prepare(threads: usize) -> Device {
    flush_denormals();
    keep_freed_memory();
    // At least one, and never more than an i32 holds.
    let threads = i32::try_from(threads.max(1)).unwrap_or(i32::MAX);
    tch::set_num_threads(threads);
    tch::set_num_interop_threads(1);
    device()
}

/// Lets numbers too small for full precision count as zero. With them, a step of a converged network costs several times
/// more: momentum and running statistics decay into that range. `x86_64` only; elsewhere nothing happens.
pub fn flush_denormals() {
    #[cfg(target_arch = "x86_64")]
    {
        /// Flush-to-zero (results) and denormals-are-zero (operands).
        const FLUSH: u32 = 1 << 15 | 1 << 6;
        let mut control: u32 = 0;
        // SAFETY: reads and writes this thread's MXCSR through a local; no rounding mode or exception mask changes.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack));
            control |= FLUSH;
            std::arch::asm!("ldmxcsr [{}]", in(reg) &control, options(nostack, readonly));
        }
    }
}

/// Makes glibc keep freed blocks, however large, until the process ends: a step frees and asks again for the same feature
/// maps, and fresh pages cost more than many a convolution that fills them.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// No block is mapped and unmapped by itself. (A threshold for that cannot be set above 32 MiB.)
        const MAPPED_BLOCKS: i32 = 0;
        /// Unused memory at the heap's end is not given back.
        const NEVER: i32 = -1;
        // SAFETY: mallopt only sets limits of the allocator; no other thread runs yet.
        unsafe {
            nix::libc::mallopt(nix::libc::M_MMAP_MAX, MAPPED_BLOCKS);
            nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, NEVER);
        }
    }
}

/// A GPU if libtorch's CUDA half is installed beside the rest and finds one; the CPU otherwise.
fn device() -> Device {
    // SAFETY: loading runs the library's initialisers, which register its kernels with libtorch; it is never unloaded.
    let loaded = unsafe {
        nix::libc::dlopen(
            c"libtorch_cuda.so".as_ptr(),
            nix::libc::RTLD_NOW | nix::libc::RTLD_GLOBAL,
        )
    };
    if !loaded.is_null() && tch::Cuda::is_available() {
        Device::Cuda(0)
    } else {
        Device::Cpu
    }
}

/// Whether `device` multiplies in bf16. Elsewhere it is computed all the same, and a hundred times slower than in single
/// precision.
pub fn multiplies_bf16(device: Device) -> bool {
    match device {
        #[cfg(target_arch = "x86_64")]
        Device::Cpu => std::arch::is_x86_feature_detected!("avx512bf16"),
        #[cfg(not(target_arch = "x86_64"))]
        Device::Cpu => false,
        _ => true,
    }
}

/// How much memory this process has needed so far, in words for its log; on a GPU also how much of that one's is in use,
/// by whomever.
pub fn memory(device: Device) -> String {
    const MIB: usize = 1 << 20;
    let resident = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    let resident = resident.map_or(0, |usage| usage.max_rss() / 1024);
    let host = format!("{resident} MiB of memory at most");
    if device == Device::Cpu {
        return host;
    }
    match cudarc::driver::result::mem_get_info() {
        Ok((free, total)) => {
            let (used, total) = ((total - free) / MIB, total / MIB);
            format!("{host}; {used} of the GPU's {total} MiB in use now")
        }
        Err(error) => format!("{host}; the GPU's cannot be read: {error}"),
    }
}

/// Time since it was started.
#[derive(Debug, Clone, Copy)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// Starts now.
    #[allow(clippy::disallowed_methods, reason = "the crate's one reader of the clock")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn denormals_count_as_zero_in_this_thread_and_its_children() {
        // On a thread of its own, so that other tests keep their mode.
        let child = std::thread::spawn(|| {
            flush_denormals();
            let halved = |x: f32| std::hint::black_box(x) * std::hint::black_box(0.5);
            let smallest = f32::MIN_POSITIVE;
            (
                halved(smallest),
                std::thread::spawn(move || halved(smallest))
                    .join()
                    .expect("no panic"),
            )
        });
        assert_eq!(child.join().expect("no panic"), (0.0, 0.0));
    }
}
