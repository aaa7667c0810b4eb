//! Clients of a coordinator: what submits, lists and watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_proto::limits::{CHUNK_BYTES, MAX_MESSAGE_BYTES};
use nettailor_proto::v1;
use nettailor_proto::v1::artifacts_client::ArtifactsClient;
use nettailor_proto::v1::jobs_client::JobsClient;
use nettailor_proto::v1::upload_request::Part;
use nettailor_proto::v1::workers_client::WorkersClient;
use tonic::transport::{Channel, Endpoint};

use crate::ambient;

/// Tasks in one submission, unless that is what is measured.
const TASKS_PER_FILE: usize = 1000;
/// Stages of a job that is submitted here: teacher, student, one candidate, select.
pub const STAGES_PER_JOB: usize = 4;
/// As the real agent's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How to reach a coordinator.
///
/// # Errors
/// Where the URL is none.
pub fn endpoint(url: &str) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("{url} is no URL"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

/// A coordinator with what tasks need in its artifact store: one blob.
#[derive(Debug)]
pub struct Site {
    url: String,
    channel: Channel,
    blob: Artifact,
    /// Seed of the next task: with another seed every stage has another key, so that nothing is shared or found finished.
    seed: AtomicU64,
}

/// A job that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its task.
    pub task: String,
    /// Its id.
    pub id: String,
}

impl Site {
    /// Connects and uploads one blob of this size, which stands for every backbone, data set and weights file.
    ///
    /// # Errors
    /// Where that fails.
    pub async fn connect(url: &str, blob_bytes: usize) -> anyhow::Result<Self> {
        let channel = endpoint(url)?.connect().await;
        let channel = channel.with_context(|| format!("no coordinator at {url}"))?;
        let content = vec![1; blob_bytes];
        let blob = Artifact {
            digest: Digest::of(&content),
            bytes: blob_bytes as u64,
        };
        let chunks: Vec<Vec<u8>> = content.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
        let parts = std::iter::once(Part::Artifact(blob.into())).chain(chunks.into_iter().map(Part::Chunk));
        let parts = parts.map(|part| v1::UploadRequest { part: Some(part) });
        ArtifactsClient::new(channel.clone())
            .upload(futures::stream::iter(parts))
            .await
            .context("the blob cannot be uploaded")?;
        Ok(Self {
            url: url.to_owned(),
            channel,
            blob,
            seed: AtomicU64::new(ambient::first_seed()),
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stands for every file.
    pub fn blob(&self) -> Artifact {
        self.blob
    }

    /// Jobs, with the product's limits.
    pub fn jobs(&self) -> JobsClient<Channel> {
        self.jobs_within(MAX_MESSAGE_BYTES)
    }

    /// Jobs, for a client that takes larger answers.
    pub fn jobs_within(&self, largest_answer: usize) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(largest_answer)
    }

    /// Workers.
    pub fn workers(&self) -> WorkersClient<Channel> {
        WorkersClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// A file of `count` tasks `<queue>-<number>`, numbered from `first`, each of [`STAGES_PER_JOB`] stages of its own.
    pub fn submission(&self, queue: &str, first: usize, count: usize) -> v1::SubmitRequest {
        let names: Vec<String> = (first..first + count)
            .map(|number| format!("{queue}-{number}"))
            .collect();
        let seed = self.seed.fetch_add(count as u64, Ordering::Relaxed);
        let tasks: String = (seed..)
            .zip(&names)
            .map(|(seed, name)| format!("  - {{name: {name}, seed: {seed}, data: {{path: data}}}}\n"))
            .collect();
        let tasks_yaml =
            format!("version: 1\nbackbone: lite0\ndefaults: {{candidates: {{k: [2]}}}}\ntasks:\n{tasks}");
        let digest = self.blob.digest.to_string();
        let inputs = v1::TaskInputs {
            backbone: Some(v1::task_inputs::Backbone::WeightsDigest(digest.clone())),
            data: Some(v1::DataInput {
                archive_digest: digest,
                classes: vec!["zero".to_owned(), "one".to_owned()],
            }),
        };
        v1::SubmitRequest {
            tasks_yaml,
            inputs: names.into_iter().map(|name| (name, inputs.clone())).collect(),
            user: queue.to_owned(),
            ..Default::default()
        }
    }

    /// Submits so many jobs, as evenly over queues as can be. A queue is a user.
    ///
    /// # Errors
    /// Where one is refused.
    pub async fn fill(&self, jobs: usize, queues: usize) -> anyhow::Result<Vec<Accepted>> {
        let mut accepted = Vec::with_capacity(jobs);
        for queue in 0..queues {
            let name = format!("q{queue}");
            let all = jobs / queues + usize::from(queue < jobs % queues);
            for first in (0..all).step_by(TASKS_PER_FILE) {
                let file = self.submission(&name, first, TASKS_PER_FILE.min(all - first));
                let answer = self
                    .jobs()
                    .submit(file)
                    .await
                    .context("a submission was refused")?;
                let answered = answer.into_inner().jobs.into_iter();
                accepted.extend(answered.map(|job| Accepted {
                    task: job.task,
                    id: job.id,
                }));
            }
        }
        Ok(accepted)
    }
}
