//! A child process whose output can be waited on, and which never outlives its test.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wait_timeout::ChildExt as _;

use crate::ambient;

/// Longest wait for anything in these tests; only a hang takes this long.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A running binary of this workspace.
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The binary `name`, beside the running test (`target/<profile>/deps/test` -> `target/<profile>/name`).
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(Path::parent)
        .context("the test has no target folder")?;
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: build it first with `cargo build --workspace --bins`",
            path.display()
        );
    }
    Ok(path)
}

/// Runs a binary to its end.
pub fn run(name: &str, folder: &Path, args: &[&str]) -> anyhow::Result<Output> {
    let child = command(&[], name, folder, args)?
        .spawn()
        .with_context(|| format!("running {name}"))?;
    let pid = child.id();
    let (send, ended) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let (output, hung) = match ended.recv_timeout(PATIENCE) {
        Ok(output) => (output?, false),
        Err(_) => {
            kill(process_id(pid)?, Signal::SIGKILL)?;
            (ended.recv()??, true)
        }
    };
    let output = Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    if hung {
        bail!("{name} {} did not end: {output:?}", args.join(" "));
    }
    Ok(output)
}

fn command(launcher: &[String], name: &str, folder: &Path, args: &[&str]) -> anyhow::Result<Command> {
    let program = binary(name)?;
    let mut command = match launcher {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Set where a test must not show nothing for want of something.
const REQUIRE: &str = "NETTAILOR_TESTS_REQUIRE";

/// Says why a test shows nothing here, past the test runner, which keeps what passing tests print to itself. All that a test
/// may lack is namespaces.
///
/// # Errors
/// Where `NETTAILOR_TESTS_REQUIRE=namespaces` says that they must be there.
pub fn skipped(why: &str) -> anyhow::Result<()> {
    ensure!(
        ambient::setting(REQUIRE).as_deref() != Some("namespaces"),
        "{REQUIRE}=namespaces, but {why}"
    );
    Ok(writeln!(std::io::stderr().lock(), "skipped: {why}")?)
}

fn process_id(pid: u32) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(
        i32::try_from(pid).context("process ids are small")?,
    ))
}

impl Process {
    /// Starts a binary; its stdout and stderr are collected line by line.
    pub fn start(name: &str, folder: &Path, args: &[&str]) -> anyhow::Result<Self> {
        Self::launch(&[], name, folder, args)
    }

    /// The same through a launcher: another program that becomes this one.
    pub fn launch(launcher: &[String], name: &str, folder: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut child = command(launcher, name, folder, args)?
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let (send, lines) = channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|s| Box::new(s) as _),
            child.stderr.take().map(|s| Box::new(s) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let (send, seen) = (send.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    seen.lock().expect("no panic under this lock").push(line.clone());
                    // The receiver is gone when nobody waits any more; the line is kept in `seen` all the same.
                    let _ = send.send(line);
                }
            });
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
            seen,
        })
    }

    /// Waits for a line that contains `text` (lines already waited past do not count).
    pub fn wait_for(&self, text: &str) -> anyhow::Result<String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} never said `{text}`:\n{}", self.name, self.output())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended without saying `{text}`:\n{}", self.name, self.output())
                }
            }
        }
    }

    /// Everything said so far.
    pub fn output(&self) -> String {
        self.seen.lock().expect("no panic under this lock").join("\n")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(process_id(self.pid())?, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.end()
    }

    /// Waits for its end.
    pub fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = self.child.wait_timeout(PATIENCE)?;
        ended.with_context(|| format!("{} did not end:\n{}", self.name, self.output()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.output());
        }
    }
}

/// How the names of trainers begin, of which the system keeps 15 characters.
const TRAINERS: [&str; 2] = ["nettailor-train", "nettailor-scrip"];

/// The trainer processes that run under `agent`.
pub fn trainers_of(agent: u32) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        // A process may end while we look.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else {
            continue;
        };
        let parent = rest.split_whitespace().nth(1).and_then(|p| p.parse::<u32>().ok());
        if TRAINERS.iter().any(|trainer| name.starts_with(trainer)) && parent == Some(agent) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// What a process does: `S`, `R`, `T` and so on; none once it is gone.
pub fn process_state(pid: Pid) -> anyhow::Result<Option<char>> {
    let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // It went while it was being read.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    // A zombie does nothing any more.
    Ok(state.filter(|state| !matches!(state, 'Z' | 'X')))
}
