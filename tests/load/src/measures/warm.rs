//! Two jobs on a real agent, the second of which finds its inputs there.

use anyhow::ensure;
use clap::Args;
use nettailor_proto::v1;
use nettailor_proto::v1::job_event::Event;
use serde::Serialize;

use crate::site::Site;

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct Warm {
    /// MiB that each job's inputs take
    #[arg(long, default_value_t = 64)]
    pub mib: usize,
}

/// Figures; what the agent did is for whoever started it to see.
#[derive(Debug, Serialize)]
pub struct Warmed {
    /// Bytes of the inputs, which both jobs share.
    pub input_bytes: u64,
}

/// Has one job run, calls `warm`, and has another run. They may fail: their stages have begun then.
///
/// # Errors
/// Where the coordinator does not do its part.
pub async fn warm(site: &Site, warm: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Warmed> {
    to_the_end(site, "cold").await?;
    warm()?;
    to_the_end(site, "warm").await?;
    Ok(Warmed {
        input_bytes: site.blob().bytes,
    })
}

async fn to_the_end(site: &Site, name: &str) -> anyhow::Result<()> {
    let accepted = site
        .jobs()
        .submit(site.submission(name, 0, 1))
        .await?
        .into_inner()
        .jobs;
    ensure!(
        accepted.len() == 1,
        "{} jobs were made of one task",
        accepted.len()
    );
    for job in accepted {
        let mut events = site
            .jobs()
            .watch(v1::WatchJobRequest { id: job.id })
            .await?
            .into_inner();
        while let Some(event) = events.message().await? {
            if let Some(Event::Job(job)) = event.event
                && job.finished_ms > 0
            {
                break;
            }
        }
    }
    Ok(())
}
