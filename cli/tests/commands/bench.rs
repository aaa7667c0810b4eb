//! A folder with the binary, a scripted trainer beside it, a tasks file and all it names.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nettailor_domain::architecture::{Architecture, select};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::stage::{FrontierPoint, Latency, StageOutcome, Tailored};
use nettailor_domain::trainer::{Failure, FailureClass, Finished, Progress, TrainerEvent};
use nettailor_domain::units::Accuracy;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

/// Longest wait for anything; only a hang takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Answers like a trainer: the stage is read from the assignment, the events from `events/<stage>`.
const TRAINER: &str = r#"#!/bin/sh
events=$(dirname "$0")/events
assignment=$(tr -d ' \n' < "$2")
output=$(printf %s "$assignment" | sed 's/.*"output_dir":"\([^"]*\)".*/\1/')
case "$assignment" in
    *'"work":{"source":'*) stage=source ;;
    *'"work":{"teacher":'*) stage=teacher ;;
    *'"work":{"student":'*) stage=student ;;
    *'"work":{"select":'*) stage=select ;;
    *'"work":{"candidate":{"k":2,'*) stage=candidate-2 ;;
    *'"work":{"candidate":{"k":6,'*) stage=candidate-6 ;;
    *'"work":{"search":'*) stage=search ;;
esac
echo "$stage is being trained" >&2
[ $stage = select ] || echo weights > "$output/weights.safetensors"
cat "$events/$stage"
[ ! -e "$events/hold-$stage" ] || exec sleep 1000
"#;

const TASKS: &str = "\
version: 1
backbone: {arch: lite0, weights: lite0.safetensors}
defaults:
  data: {path: images, image_size: 32}
  candidates: {k: [2, 6]}
tasks:
  - name: shapes
";

/// Where one test works.
pub(crate) struct Bench {
    folder: TempDir,
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        // Beside the binary, so that it can be linked and not copied.
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let bench = Self { folder };
        fs::hard_link(env!("CARGO_BIN_EXE_nettailor-cli"), bench.path("nettailor-cli")).expect("linked");
        bench.write("nettailor-trainer", TRAINER);
        fs::set_permissions(bench.path("nettailor-trainer"), fs::Permissions::from_mode(0o755))
            .expect("executable");
        bench.write("tasks.yaml", TASKS);
        for (class, pixel) in [("black", 0), ("white", 255)] {
            for split in ["train", "test"] {
                let image = [b"P5\n1 1\n255\n".as_slice(), &[pixel]].concat();
                bench.write(&format!("images/{split}/{class}/one.pgm"), image);
            }
        }
        bench.write("lite0.safetensors", weights());
        for (stage, outcome) in outcomes() {
            bench.play(&stage, &[progress(), finished(outcome)]);
        }
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a folder");
        fs::write(path, content).expect("written");
    }

    /// What the trainer says at `stage`.
    fn play(&self, stage: &str, events: &[TrainerEvent]) {
        let line = |event| serde_json::to_string(event).expect("an event is JSON") + "\n";
        self.write(
            &format!("events/{stage}"),
            events.iter().map(line).collect::<String>(),
        );
    }

    /// Lets the trainer reject its inputs at `stage`.
    pub(crate) fn fail(&self, stage: &str, message: &str) {
        let failure = Failure {
            class: FailureClass::Input,
            message: message.into(),
        };
        self.play(stage, &[TrainerEvent::Failed(failure)]);
    }

    /// Lets the trainer go on for ever at `stage`, after a report.
    pub(crate) fn hold(&self, stage: &str) {
        self.play(stage, &[progress()]);
        self.write(&format!("events/hold-{stage}"), "");
    }

    /// Lets the trainer do `stage` again.
    pub(crate) fn release(&self, stage: &str) {
        fs::remove_file(self.path(&format!("events/hold-{stage}"))).expect("it was held");
        self.play(stage, &[finished(outcomes().remove(stage).expect("a stage"))]);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("nettailor-cli"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
            .env("NO_COLOR", "1")
            .env("XDG_CACHE_HOME", self.path("xdg"));
        command
            .env_remove("NETTAILOR_COORDINATOR")
            .env_remove("NETTAILOR_TRAINER")
            .env_remove("NETTAILOR_USER")
            .env_remove("NETTAILOR_LOG");
        command
    }

    /// Runs the CLI to its end.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().expect("the binary runs");
        Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Runs the CLI, which must succeed, and reads what it printed.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.cli(&[args, &["-o", "json"]].concat());
        assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {output:?}"))
    }

    /// Starts the CLI.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        let mut child = self
            .command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stderr = child.stderr.take().expect("piped");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody waits any more.
                let _ = send.send(line);
            }
        });
        Started { child, lines }
    }
}

/// A running command. Killed when dropped.
pub(crate) struct Started {
    child: Child,
    lines: Receiver<String>,
}

impl Started {
    /// Waits for a line on stderr that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("`{text}` was not said ({error}), but:\n{}", seen.join("\n")),
            }
        }
    }

    /// What Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .expect("kill runs")
                .success()
        );
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        self.child.wait().expect("it was started")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// The command must have ended with `code`, and stderr must hold all of `said`.
    pub(crate) fn refused(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in said {
            assert!(
                self.stderr.contains(text),
                "`{text}` is missing from:\n{}",
                self.stderr
            );
        }
    }
}

/// A lite0 of zeros, in the publisher's form.
fn weights() -> Vec<u8> {
    let tensors = BackboneName::Lite0.describe().tensors();
    let most = tensors
        .iter()
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .max()
        .unwrap_or(0);
    let zeros = vec![0; 4 * most];
    let views = tensors.iter().map(|tensor| {
        let bytes = &zeros[..4 * tensor.shape.iter().product::<usize>()];
        (
            &tensor.name,
            TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).expect("it fits"),
        )
    });
    safetensors::serialize(views, None).expect("it fits")
}

fn progress() -> TrainerEvent {
    TrainerEvent::Progress(Progress {
        phase: "training".into(),
        epoch: 1,
        epochs: 3,
        ..Progress::default()
    })
}

fn finished(outcome: StageOutcome) -> TrainerEvent {
    TrainerEvent::Finished(Finished {
        outcome,
        samples: [2, 2, 2],
        unreadable: 0,
    })
}

/// What each stage finds. Candidate 6 is the leanest that is good enough.
fn outcomes() -> HashMap<String, StageOutcome> {
    let of = |correct| Accuracy { correct, total: 1000 };
    let (teacher, held_out) = (of(980), of(978));
    let architecture = Architecture::new(&BackboneName::Lite0.describe(), 3);
    let pruned = |k| architecture.prune(k, 0.0).expect("that many can go");
    let tailored = |k| {
        let architecture = pruned(k);
        let point = FrontierPoint {
            k,
            counts: architecture.counts(2, 32),
            held_out,
            epochs: 3.0,
        };
        Tailored { point, architecture }
    };
    let frontier = [2, 6].map(|k| tailored(k).point);
    let scores = frontier.map(|point| point.score());
    let selection = select(&scores, teacher, 0.005).expect("there are two");
    let latency = |batch_1_ms| Latency {
        batch_1_ms,
        batch_32_ms: 20.0 * batch_1_ms,
    };
    let select = StageOutcome::Select {
        selection,
        teacher_test: of(981),
        test: of(979),
        teacher_latency: latency(4.0),
        latency: latency(2.5),
    };
    let search = StageOutcome::Search {
        frontier: frontier.to_vec(),
        infeasible: vec![],
        selection,
        tailored: tailored(6),
    };
    HashMap::from([
        ("source".into(), StageOutcome::Source { held_out: of(900) }),
        ("teacher".into(), StageOutcome::Teacher { held_out: teacher }),
        ("candidate-2".into(), StageOutcome::Candidate(tailored(2))),
        ("candidate-6".into(), StageOutcome::Candidate(tailored(6))),
        ("search".into(), search),
        ("select".into(), select),
        (
            "student".into(),
            StageOutcome::Student {
                architecture: architecture.clone(),
                held_out,
                expected_complexity: 0.4,
            },
        ),
    ])
}
