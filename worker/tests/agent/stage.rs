//! A folder with an artifact store, a trainer that is a shell script, and an agent's configuration.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::ids::{Attempt, Digest, Seat, StageKey};
use nettailor_domain::session::Order;
use nettailor_domain::stage::{StageSpec, StageWork};
use nettailor_domain::task::DataSettings;
use nettailor_worker::Config;
use tempfile::TempDir;
use url::Url;

/// What a trainer of a test begins with: `$out` is the attempt's folder, `$here` the test's.
const PROLOGUE: &str = r#"#!/bin/sh
set -u
out=$(dirname "$2")
here=$(dirname "$0")
say() { echo "$*" >&2; }
finish() {
    printf weights > "$out/weights.safetensors"
    echo '{"event":"finished","outcome":{"stage":"teacher","held_out":{"correct":9,"total":10}},"samples":[8,1,1],"unreadable":0}'
}
"#;

/// Everything of one test.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) store: ArtifactStore,
}

impl Stage {
    /// With a trainer that does what `script` says.
    pub(crate) fn with_trainer(script: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let url = Url::from_directory_path(folder.path().join("artifacts")).expect("an absolute path");
        let store = ArtifactStore::open(&url).expect("a store in a folder");
        install(&folder.path().join("trainer"), &format!("{PROLOGUE}{script}\n"));
        Self { folder, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        self.store.url().to_string()
    }

    /// Makes a named pipe.
    pub(crate) fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
        path
    }

    pub(crate) fn config(&self, coordinator: String) -> Config {
        Config {
            name: "node-1".parse().expect("a name"),
            threads_per_slot: 3,
            trainer: self.path("trainer"),
            stop_grace: Duration::from_millis(100),
            ..Config::local(coordinator, self.path("cache"), 2)
        }
    }

    /// An order for a teacher whose inputs are in the store.
    pub(crate) async fn order(&self, number: u32) -> Order {
        let backbone = self.store.put_bytes(&b"backbone"[..]).await.expect("stored");
        let data = self.store.put_bytes(&b"data"[..]).await.expect("stored");
        Order {
            backbone: Some(backbone),
            data,
            ..order(number, backbone.digest, data.digest)
        }
    }

    /// Folders of attempts that exist now.
    pub(crate) fn attempt_folders(&self) -> usize {
        let entries = std::fs::read_dir(self.path("cache/attempts/node-1")).expect("the agent's folder");
        let folder = |entry: &std::fs::DirEntry| entry.file_type().expect("what it is").is_dir();
        entries
            .filter(|entry| folder(entry.as_ref().expect("it is there")))
            .count()
    }
}

/// An order whose inputs are nowhere.
pub(crate) fn order(number: u32, backbone: Digest, data: Digest) -> Order {
    let reading: DataSettings = serde_json::from_str(r#"{"path": ""}"#).expect("defaults");
    let training = serde_json::json!({
        "epochs": 1, "batch_size": 1, "learning_rate": 0.1, "schedule": "step", "milestones": [], "momentum": 0.9,
        "weight_decay": 0.0, "label_smoothing": 0.0, "ema": 0.0,
    });
    let spec = StageSpec {
        arch: "lite0".parse().expect("a network"),
        backbone: Some(backbone),
        data,
        reading,
        classes: vec!["a".to_owned(), "b".to_owned()],
        seed: 1,
        precision: Default::default(),
        sync_bn: false,
        rerun: 0,
        wire: Default::default(),
        work: StageWork::Teacher {
            training: serde_json::from_value(training).expect("settings"),
        },
    };
    let artifact = |digest| nettailor_domain::stage::Artifact { digest, bytes: 8 };
    let attempt = Attempt {
        stage: spec.key(&[]),
        number,
    };
    Order {
        seat: Seat { attempt, rank: 0 },
        world_size: 1,
        spec,
        backbone: Some(artifact(backbone)),
        data: artifact(data),
        parents: Vec::new(),
        selection: None,
        checkpoint: None,
        checkpoint_seconds: 60,
        description: "teacher of a test".to_owned(),
    }
}

/// A seat that nobody knows.
pub(crate) fn unknown_seat() -> Seat {
    let attempt = Attempt {
        stage: StageKey(Digest::of(b"unknown")),
        number: 1,
    };
    Seat { attempt, rank: 0 }
}

/// Writes a program. Another process does it: were the file open for writing here, a child that another test forks in
/// this moment would hold it open, too, and the system would refuse to run it.
fn install(path: &Path, text: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the install command");
    install
        .stdin
        .take()
        .expect("a pipe")
        .write_all(text.as_bytes())
        .expect("written");
    assert!(install.wait().expect("ended").success());
}
