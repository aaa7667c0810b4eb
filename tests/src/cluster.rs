//! A coordinator, its workers and the CLI in a temporary folder.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::dataset;
use crate::process::{self, Output, Process};

/// Processes and files of one test.
pub struct Cluster {
    folder: TempDir,
    launcher: Vec<String>,
    host: String,
    state: PathBuf,
    artifacts: PathBuf,
    port: u16,
    /// The coordinator, while it runs.
    pub coordinator: Option<Process>,
    /// The workers, in the order they were started.
    pub workers: Vec<Process>,
    /// Their names.
    names: Vec<String>,
}

impl Cluster {
    /// A coordinator without workers, on a port of its own.
    pub fn start() -> anyhow::Result<Self> {
        Self::at("127.0.0.1")
    }

    /// The same at an address of this machine.
    pub fn at(host: &str) -> anyhow::Result<Self> {
        Self::set_up(Vec::new(), host, Path::new("state"), Path::new("artifacts"))
    }

    /// The same through a launcher, with folders for state and artifacts; relative ones are in the cluster's folder.
    pub fn launch(launcher: Vec<String>, state: &Path, artifacts: &Path) -> anyhow::Result<Self> {
        Self::set_up(launcher, "127.0.0.1", state, artifacts)
    }

    fn set_up(launcher: Vec<String>, host: &str, state: &Path, artifacts: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind((host, 0))?.local_addr()?.port();
        let folder = TempDir::new()?;
        let mut cluster = Self {
            state: folder.path().join(state),
            artifacts: folder.path().join(artifacts),
            folder,
            launcher,
            host: host.to_owned(),
            port,
            coordinator: None,
            workers: Vec::new(),
            names: Vec::new(),
        };
        cluster.start_coordinator()?;
        Ok(cluster)
    }

    /// Starts the coordinator (again, on the same state and port).
    pub fn start_coordinator(&mut self) -> anyhow::Result<()> {
        let listen = format!("{}:{}", self.host, self.port);
        let (state, artifacts) = (self.state.to_string_lossy(), self.artifacts.to_string_lossy());
        let args = ["--listen", &listen, "--http", "127.0.0.1:0", "--state", &state];
        let args = [&args[..], &["--artifacts", &artifacts]].concat();
        let coordinator = Process::launch(&self.launcher, "nettailor-coordinator", self.folder(), &args)?;
        coordinator.wait_for("listening")?;
        self.coordinator = Some(coordinator);
        Ok(())
    }

    /// SIGKILL to the coordinator.
    pub fn kill_coordinator(&mut self) -> anyhow::Result<()> {
        let ended = self.coordinator.take().context("no coordinator runs")?.kill()?;
        ensure!(
            ended.signal() == Some(9),
            "the coordinator ended by itself: {ended}"
        );
        Ok(())
    }

    /// Waits until the coordinator ends by itself; its exit code.
    pub fn coordinator_end(&mut self) -> anyhow::Result<Option<i32>> {
        let mut coordinator = self.coordinator.take().context("no coordinator runs")?;
        Ok(coordinator.end()?.code())
    }

    /// Starts a worker of one slot and one thread with a cache of its own, and waits until its session is up.
    pub fn start_worker(&mut self, name: &str) -> anyhow::Result<()> {
        self.launch_worker(&[], name)
    }

    /// The same through a launcher.
    pub fn launch_worker(&mut self, launcher: &[String], name: &str) -> anyhow::Result<()> {
        let options = ["--slots", "1", "--threads", "1", "--sample-ledger", "ledger"];
        self.add_worker(launcher, name, &options)?;
        self.worker(name)?.wait_for("session is up").map(drop)
    }

    /// Starts a worker with these options and a cache of its own, in place of an earlier one of this name, which is then gone.
    /// Its session is not waited for: there may be no coordinator.
    pub fn add_worker(&mut self, launcher: &[String], name: &str, options: &[&str]) -> anyhow::Result<()> {
        let (address, cache) = (self.address(), format!("cache-{name}"));
        let args = ["--coordinator", &address, "--name", name, "--cache", &cache];
        let args = [&args[..], &["--http", "127.0.0.1:0"], options].concat();
        let before = self.names.iter().position(|other| other == name);
        if let Some(index) = before {
            self.names.remove(index);
            self.workers.remove(index);
        }
        let worker = Process::launch(launcher, "nettailor-worker", self.folder(), &args)?;
        self.workers.push(worker);
        self.names.push(name.to_owned());
        Ok(())
    }

    /// The worker of this name.
    pub fn worker(&self, name: &str) -> anyhow::Result<&Process> {
        let mut named = self.names.iter().zip(&self.workers);
        let found = named.find(|(other, _)| *other == name);
        Ok(found.with_context(|| format!("there is no worker {name}"))?.1)
    }

    /// The worker of this name, to be harmed.
    pub fn worker_mut(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        let mut named = self.names.iter().zip(&mut self.workers);
        let found = named.find(|(other, _)| *other == name);
        Ok(found.with_context(|| format!("there is no worker {name}"))?.1)
    }

    /// Where the artifact store keeps what is named by its digest.
    pub fn blobs(&self) -> PathBuf {
        self.artifacts.join("blobs")
    }

    /// Where the workers' trainers note what they train on.
    pub fn ledger(&self) -> PathBuf {
        self.folder().join("ledger")
    }

    /// The coordinator's URL.
    pub fn address(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Where everything of this test lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file under the cluster's folder.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Runs the CLI against this coordinator.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<Output> {
        let address = self.address();
        process::run(
            "nettailor-cli",
            self.folder(),
            &[&["--coordinator", &address], args].concat(),
        )
    }

    /// Runs the CLI, which must succeed, and returns its stdout as JSON.
    pub fn cli_json(&self, args: &[&str]) -> anyhow::Result<serde_json::Value> {
        let output = self.cli(&[args, &["-o", "json"]].concat())?;
        ensure!(output.code == Some(0), "{args:?} failed: {output:?}");
        serde_json::from_str(&output.stdout).with_context(|| format!("{args:?} printed {}", output.stdout))
    }

    /// Submits the tasks file and returns the ids of its jobs.
    pub fn submit(&self, file: &str) -> anyhow::Result<Vec<String>> {
        let output = self.cli(&["submit", file, "-o", "name"])?;
        ensure!(output.code == Some(0), "submit failed: {output:?}");
        Ok(output.stdout.lines().map(str::to_owned).collect())
    }
}

/// A tasks file for the texture task over the ImageNet-trained lite0, with `task` laid over small settings.
///
/// `task` is YAML in flow style, for instance `{student: {gamma1: 0.5}}`.
pub fn textures_task(cluster: &Cluster, name: &str, task: &str) -> anyhow::Result<String> {
    let backbone = format!("{{arch: lite0, weights: {}}}", lite0_weights()?.display());
    textures_over(cluster, &backbone, "", 0.05, name, task)
}

/// The same over a lite0 that is pre-trained for a moment on other textures; nothing has to be fetched for it.
pub fn textures_from_source(cluster: &Cluster, name: &str, task: &str) -> anyhow::Result<String> {
    let source = cluster.folder().join("source");
    if !source.exists() {
        dataset::textures(&source, 16, 2)?;
    }
    let backbone =
        "{arch: lite0, source: {data: {path: source, image_size: 32}, training: {epochs: 2, batch_size: 8}}}";
    // What was trained for a moment is no ground to stand on: each task has statistics of its own, each layer learns by
    // itself, and slowly.
    textures_over(
        cluster,
        backbone,
        "bn_mode: task, hints: local, ",
        0.005,
        name,
        task,
    )
}

/// `student` is what the tasks' students are told besides their training, `rate` their candidates' learning rate.
fn textures_over(
    cluster: &Cluster,
    backbone: &str,
    student: &str,
    rate: f64,
    name: &str,
    task: &str,
) -> anyhow::Result<String> {
    let data = cluster.folder().join("textures");
    if !data.exists() {
        dataset::textures(&data, 16, 1)?;
    }
    let text = format!(
        "version: 1
backbone: {backbone}
defaults:
  data: {{path: textures, image_size: 32}}
  teacher: {{epochs: 4, batch_size: 8}}
  student: {{{student}training: {{epochs: 4, batch_size: 8}}}}
  # So few steps teach the attention little: every proxy stays, so that each k leaves a network.
  candidates: {{k: [6, 10], proxy_threshold: 0.0, training: {{epochs: 2, batch_size: 8, learning_rate: {rate}}}}}
  tolerance_points: 20.0
tasks:
  - {task}
",
        task = if task.is_empty() {
            format!("{{name: {name}}}")
        } else {
            format!("{{name: {name}, {task}}}")
        },
    );
    let file = format!("{name}.yaml");
    cluster.write(&file, &text)?;
    Ok(file)
}

/// The published weights that `make data` fetches.
pub fn lite0_weights() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests have a workspace")?;
    let path = root.join(".data/backbones/efficientnet_lite0.pth");
    ensure!(path.exists(), "{} is missing: run `make data`", path.display());
    Ok(path)
}
