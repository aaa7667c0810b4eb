//! A coordinator with agents whose trainers follow a script.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use nettailor_proto::v1::task_inputs::Backbone;
use nettailor_proto::v1::{DataInput, SubmitRequest, TaskInputs};
use nettailor_tests::process::binary;
use nettailor_tests::script::{CONTROL, Control, Cue, Script};
use nettailor_tests::{Cluster, dataset, watch};

/// A cluster and its script.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) control: Control,
    trainer: PathBuf,
}

impl Scene {
    /// With a coordinator and no agents.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::of(Cluster::start()?)
    }

    /// Around a coordinator that runs.
    pub(crate) fn of(cluster: Cluster) -> anyhow::Result<Self> {
        let control = cluster.folder().join("control");
        fs::create_dir(&control)?;
        dataset::textures(&cluster.folder().join("pictures"), 4, 1)?;
        Ok(Self {
            control: Control::at(&control),
            trainer: binary("nettailor-scripted-trainer")?,
            cluster,
        })
    }

    /// Has trainers take steps of so many milliseconds from now on, and go wrong on these cues.
    pub(crate) fn direct(&self, step_ms: u64, cues: Vec<Cue>) -> anyhow::Result<()> {
        self.control.direct(&Script { step_ms, cues })
    }

    /// Starts an agent, or starts it again; its session is not waited for.
    pub(crate) fn send_in(&mut self, launcher: &[String], name: &str, slots: u32) -> anyhow::Result<()> {
        let control = self.cluster.folder().join("control");
        let variable = format!("{CONTROL}={}", control.display());
        let launcher = [launcher, &["env".to_owned(), variable]].concat();
        let (slots, trainer) = (slots.to_string(), self.trainer.display().to_string());
        let options = ["--slots", &slots, "--threads", "1", "--trainer", &trainer];
        self.cluster.add_worker(&launcher, name, &options)
    }

    /// Starts an agent and waits for its session.
    pub(crate) fn hire(&mut self, name: &str, slots: u32) -> anyhow::Result<()> {
        self.hire_through(&[], name, slots)
    }

    /// The same through a launcher.
    pub(crate) fn hire_through(&mut self, launcher: &[String], name: &str, slots: u32) -> anyhow::Result<()> {
        self.send_in(launcher, name, slots)?;
        self.cluster.worker(name)?.wait_for("session is up").map(drop)
    }

    /// Submits tasks, each written in flow style, by the CLI: the jobs' ids.
    pub(crate) fn submit(&self, tasks: &[&str]) -> anyhow::Result<Vec<String>> {
        self.cluster.write("tasks.yaml", &tasks_file(tasks))?;
        self.cluster.submit("tasks.yaml")
    }

    /// Has the CLI upload the data by a first task, before anything else is stored; what other tasks say of their inputs.
    pub(crate) fn upload(&self, task: &str) -> anyhow::Result<(String, TaskInputs)> {
        let id = self.submit(&[task])?.remove(0);
        let blobs: Vec<_> = fs::read_dir(self.cluster.blobs())?.collect::<Result<_, _>>()?;
        let [archive] = blobs.as_slice() else {
            anyhow::bail!("one archive is all that was uploaded: {blobs:?}");
        };
        let data = DataInput {
            archive_digest: archive.file_name().to_string_lossy().into_owned(),
            classes: ["checks", "columns", "rows"].map(str::to_owned).to_vec(),
        };
        let inputs = TaskInputs {
            backbone: Some(Backbone::Source(data.clone())),
            data: Some(data),
        };
        Ok((id, inputs))
    }
}

/// Submits one task from this very process, so that the moment of the answer is known.
pub(crate) async fn submit(
    address: &str,
    name: &str,
    task: &str,
    inputs: &TaskInputs,
) -> anyhow::Result<String> {
    let request = SubmitRequest {
        tasks_yaml: tasks_file(&[task]),
        inputs: HashMap::from([(name.to_owned(), inputs.clone())]),
        ..Default::default()
    };
    let mut jobs = watch::jobs(address)
        .await?
        .submit(request)
        .await?
        .into_inner()
        .jobs;
    ensure!(jobs.len() == 1, "one task is one job: {jobs:?}");
    Ok(jobs.pop().context("a job")?.id)
}

/// A tasks file over a backbone that is pre-trained on the task's own images, which suits nobody but saves an upload.
pub(crate) fn tasks_file(tasks: &[&str]) -> String {
    let source = "{arch: resnet18, source: {data: {path: pictures, image_size: 32}, training: {epochs: 2}}}";
    tasks_over(source, tasks)
}

/// A tasks file over this backbone.
pub(crate) fn tasks_over(backbone: &str, tasks: &[&str]) -> String {
    let tasks: String = tasks.iter().map(|task| format!("  - {{{task}}}\n")).collect();
    format!(
        "version: 1
backbone: {backbone}
defaults:
  data: {{path: pictures, image_size: 32}}
  teacher: {{epochs: 3}}
  student: {{training: {{epochs: 2}}}}
  candidates: {{k: [2, 4], proxy_threshold: 0.0, training: {{epochs: 2}}}}
  resources: {{checkpoint_seconds: 0}}
tasks:
{tasks}"
    )
}
