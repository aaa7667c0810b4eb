//! The only place where this crate reads the clock, chance and its surroundings.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the crate's clock and environment module"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nettailor_domain::ids::WorkerId;
use rand::Rng;
use tokio::time::Instant;

use crate::gpus;

/// Monotonic time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Time of day.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970; 0 on a clock that is set before.
pub(crate) fn wall_ms() -> u64 {
    wall()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A random part of `most`: at least half, so that a delay neither vanishes nor beats in time with others.
pub(crate) fn jittered(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// CPU cores that this process may use, at least 1.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The GPUs that CUDA would use: those it is told of, or as many as the driver has device files.
pub(crate) fn gpus() -> Vec<String> {
    let told = std::env::var(gpus::VARIABLE).ok();
    let files = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let count = files
        .filter(|file| is_gpu(&file.file_name().to_string_lossy()))
        .count();
    match told {
        Some(list) => list
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
        None => (0..count).map(|number| number.to_string()).collect(),
    }
}

/// Where a program of this installation lies: beside the running one.
pub(crate) fn beside_this_program(name: &str) -> PathBuf {
    std::env::current_exe().map_or_else(|_| PathBuf::from(name), |program| program.with_file_name(name))
}

/// Whether a name has addresses; blocks, and so only before anything runs.
pub(crate) fn find(host: &str) -> io::Result<()> {
    let mut found = (host.trim_matches(['[', ']']), 0).to_socket_addrs()?;
    found
        .next()
        .map(drop)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The first address of `host` that other machines could mean by it, else the first.
pub(crate) async fn address_of(host: &str) -> io::Result<IpAddr> {
    let host = host.trim_matches(['[', ']']);
    let addresses: Vec<IpAddr> = tokio::net::lookup_host((host, 0))
        .await?
        .map(|found| found.ip())
        .collect();
    let outside = addresses.iter().find(|address| !address.is_loopback());
    let found = outside.or(addresses.first()).copied();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// The address of this machine from which `host` is reached. Nothing is sent.
pub(crate) async fn address_towards(host: &str, port: u16) -> io::Result<IpAddr> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in tokio::net::lookup_host((host, port)).await? {
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = tokio::net::UdpSocket::bind(any).await?;
        match socket.connect(target).await.and_then(|()| socket.local_addr()) {
            Ok(local) => return Ok(local.ip()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The host's name as a worker name.
pub(crate) fn host_name() -> WorkerId {
    worker_name(&gethostname::gethostname().to_string_lossy())
}

/// Turns any text into a worker name: lower case, other characters than those of a name as `-`.
fn worker_name(text: &str) -> WorkerId {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = text
        .chars()
        .map(allowed)
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(63)
        .collect();
    name.parse()
        .unwrap_or_else(|_| "worker".parse().expect("`worker` is a worker name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_becomes_a_worker_name() {
        assert_eq!(worker_name("Node-7.example.ORG").as_str(), "node-7.example.org");
        assert_eq!(worker_name("_büro 3").as_str(), "b-ro-3");
        assert_eq!(worker_name("").as_str(), "worker");
        assert_eq!(worker_name(&"n".repeat(100)).as_str().len(), 63);
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        let most = Duration::from_secs(8);
        assert!(
            (0..100)
                .map(|_| jittered(most))
                .all(|d| d >= most / 2 && d <= most)
        );
    }
}
