//! The only module that reads clocks and draws random numbers, and what Linux says of processes.
#![allow(clippy::disallowed_methods, reason = "the crate's clock")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::Rng as _;

/// Monotonic time.
pub fn now() -> Instant {
    Instant::now()
}

/// A random part of `most`, at least half: as an agent waits before it tries again.
pub fn jittered(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Where the seeds of a process begin: far from those of any other that uses the same state directory.
pub fn first_seed() -> u64 {
    u64::from(rand::rng().random::<u16>()) << 24
}

/// Memory of a process in MB (10^6 bytes): resident now, and at most so far.
pub fn memory_mb(pid: u32) -> anyhow::Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kilobytes
            .map(|kilobytes| kilobytes * 1024.0 / 1e6)
            .with_context(|| format!("{path} has no {name}"))
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}
