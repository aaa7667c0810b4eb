//! Waiting for what the coordinator says about a job.

use anyhow::{Context, bail};
use nettailor_proto::v1::job_event::Event;
use nettailor_proto::v1::jobs_client::JobsClient;
use nettailor_proto::v1::workers_client::WorkersClient;
use nettailor_proto::v1::{
    GetJobRequest, Job, JobState, ListJobsRequest, ListWorkersRequest, Stage, WatchJobRequest, Worker,
};
use tonic::transport::Channel;

use crate::process::PATIENCE;

/// What a watcher sees: the whole job, or one stage's progress `(kind, step)`.
pub enum Seen<'a> {
    /// The job after a change.
    Job(&'a Job),
    /// A report of a running stage.
    Progress {
        /// Stage kind.
        kind: &'a str,
        /// Steps done.
        step: u64,
    },
}

/// Follows job `id` until `wanted` answers yes; fails if the job ends first or nothing comes.
pub async fn until(address: &str, id: &str, mut wanted: impl FnMut(Seen<'_>) -> bool) -> anyhow::Result<()> {
    let follow = async {
        let mut stream = jobs(address)
            .await?
            .watch(WatchJobRequest { id: id.to_owned() })
            .await?
            .into_inner();
        while let Some(event) = stream.message().await? {
            let hit = match event.event.as_ref().context("an event without content")? {
                Event::Job(job) => wanted(Seen::Job(job)),
                Event::Progress(p) => {
                    let step = p.progress.as_ref().map_or(0, |progress| progress.step);
                    wanted(Seen::Progress { kind: &p.kind, step })
                }
            };
            if hit {
                return Ok(());
            }
        }
        bail!("job {id} ended before it was seen: {:?}", get(address, id).await?)
    };
    tokio::time::timeout(PATIENCE, follow)
        .await
        .with_context(|| format!("waiting on job {id}"))?
}

/// Follows job `id` to its end.
pub async fn until_final(address: &str, id: &str) -> anyhow::Result<Job> {
    let mut last = None;
    until(address, id, |seen| {
        if let Seen::Job(job) = seen {
            last = Some(job.clone());
        }
        last.as_ref().is_some_and(|job| is_final(job.state()))
    })
    .await?;
    last.context("a final job was seen")
}

/// Waits until a stage of this kind reports its first training step.
pub async fn until_training(address: &str, id: &str, stage: &str) -> anyhow::Result<()> {
    until(
        address,
        id,
        |seen| matches!(seen, Seen::Progress { kind, step } if kind == stage && step > 0),
    )
    .await
}

/// Whether nothing more will happen to a job in this state.
pub fn is_final(state: JobState) -> bool {
    matches!(
        state,
        JobState::Succeeded | JobState::Failed | JobState::Cancelled
    )
}

/// The job with its stages.
pub async fn get(address: &str, id: &str) -> anyhow::Result<Job> {
    Ok(jobs(address)
        .await?
        .get(GetJobRequest { id: id.to_owned() })
        .await?
        .into_inner())
}

/// All jobs, newest first.
pub async fn list(address: &str) -> anyhow::Result<Vec<Job>> {
    let mut client = jobs(address).await?;
    let (mut all, mut request) = (Vec::new(), ListJobsRequest::default());
    loop {
        let page = client.list(request).await?.into_inner();
        all.extend(page.jobs);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request = ListJobsRequest {
            page_token: page.next_page_token,
            ..ListJobsRequest::default()
        };
    }
}

/// The workers that the coordinator knows.
pub async fn workers(address: &str) -> anyhow::Result<Vec<Worker>> {
    let client = WorkersClient::connect(address.to_owned()).await;
    let mut client = client.with_context(|| format!("connecting to {address}"))?;
    Ok(client.list(ListWorkersRequest {}).await?.into_inner().workers)
}

/// The stage of this kind.
pub fn stage<'a>(job: &'a Job, kind: &str) -> &'a Stage {
    job.stages
        .iter()
        .find(|stage| stage.kind == kind)
        .unwrap_or_else(|| panic!("no stage {kind} in {job:?}"))
}

/// A client for jobs.
pub async fn jobs(address: &str) -> anyhow::Result<JobsClient<Channel>> {
    JobsClient::connect(address.to_owned())
        .await
        .with_context(|| format!("connecting to {address}"))
}
