//! What running jobs and connected workers cost the coordinator.

use clap::Args;
use serde::Serialize;

use crate::ambient::memory_mb;
use crate::fleet::{Conduct, Fleet, Settings};
use crate::site::Site;

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct Memory {
    /// Process of the coordinator
    #[arg(long)]
    pub coordinator_pid: u32,
    /// Jobs, each of which runs its first stage
    #[arg(long, default_value_t = 2000)]
    pub jobs: usize,
    /// Workers that share them
    #[arg(long, default_value_t = 1000)]
    pub workers: usize,
}

/// Figures: MB that are resident.
#[derive(Debug, Serialize)]
pub struct Resident {
    /// As asked for.
    pub jobs: usize,
    /// As asked for.
    pub workers: usize,
    /// Before anything.
    pub fresh_mb: f64,
    /// With all workers and no job.
    pub workers_mb: f64,
    /// With all jobs running.
    pub running_mb: f64,
    /// The most there was.
    pub peak_mb: f64,
}

/// Measures it.
///
/// # Errors
/// Where the coordinator does not do its part, or is not on this machine.
pub async fn memory(site: &Site, asked: Memory) -> anyhow::Result<Resident> {
    let (fresh_mb, _) = memory_mb(asked.coordinator_pid)?;
    let mut fleet = Fleet::start(
        site,
        Settings {
            workers: asked.workers,
            slots: u32::try_from(asked.jobs.div_ceil(asked.workers))?,
            conduct: Conduct::Hold,
        },
    )?;
    fleet.attached().await?;
    let (workers_mb, _) = memory_mb(asked.coordinator_pid)?;
    site.fill(asked.jobs, 1).await?;
    fleet.assigned(asked.jobs).await?;
    let (running_mb, peak_mb) = memory_mb(asked.coordinator_pid)?;
    Ok(Resident {
        jobs: asked.jobs,
        workers: asked.workers,
        fresh_mb,
        workers_mb,
        running_mb,
        peak_mb,
    })
}
