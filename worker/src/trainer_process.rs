//! One trainer process: started in its own process group, heard line by line, ended with everything it started.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nettailor_domain::trainer::{TrainerCommand, TrainerEvent};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::gpus;

/// Longest event. An architecture of some dozens of layers takes a few kilobytes.
const MAX_EVENT_BYTES: u64 = 1 << 20;
/// Longest log line; longer ones are broken.
const MAX_LOG_BYTES: usize = 4 << 10;
/// Trainers give way to their agent, which has to answer the coordinator within seconds, and to what else runs on the node.
const NICE: i32 = 5;
/// Lines on their way from the pipes: a trainer that writes faster than they are taken waits in its own `write`.
const LINES: usize = 64;

/// What a trainer said.
#[derive(Debug)]
pub(crate) enum Line {
    /// One line of the protocol.
    Event(Box<TrainerEvent>),
    /// Anything else.
    Log(String),
}

/// A running trainer. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct TrainerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    group: Pid,
    lines: mpsc::Receiver<Line>,
    status: Option<ExitStatus>,
}

impl TrainerProcess {
    /// Starts `program run <assignment>` with `threads` threads for every library that computes, on this GPU if there is one.
    ///
    /// # Errors
    /// What the system said, e.g. that there is no such program.
    pub(crate) fn spawn(
        program: &Path,
        assignment: &Path,
        threads: usize,
        gpu: Option<&str>,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg(assignment);
        for variable in [
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "RAYON_NUM_THREADS",
        ] {
            command.env(variable, threads.to_string());
        }
        if let Some(gpu) = gpu {
            command.env(gpus::VARIABLE, gpu);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        die_with_this_process(&mut command);
        give_way(&mut command);
        let mut child = command.spawn()?;
        let (Some(id), Some(stdout), Some(stderr)) = (child.id(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the new process has no id or no pipes"));
        };
        // Process ids fit: the kernel's limit is 2^22.
        let group = Pid::from_raw(i32::try_from(id).map_err(io::Error::other)?);
        let (sender, lines) = mpsc::channel(LINES);
        tokio::spawn(forward(stdout, sender.clone(), event_or_log));
        tokio::spawn(forward(stderr, sender, Line::Log));
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            group,
            lines,
            status: None,
        })
    }

    /// The next line; `None` when the trainer has ended and all it said was heard. Cancel-safe.
    pub(crate) async fn next_line(&mut self) -> Option<Line> {
        loop {
            tokio::select! {
                line = self.lines.recv() => match line {
                    Some(line) => return Some(line),
                    None if self.status.is_some() => return None,
                    // It closed its pipes but lives on.
                    None => self.ended().await,
                },
                () = Self::wait(&mut self.child, &mut self.status, self.group), if self.status.is_none() => {}
            }
        }
    }

    async fn ended(&mut self) {
        Self::wait(&mut self.child, &mut self.status, self.group).await;
    }

    /// Waits for the trainer's end, then kills what it left behind, so that the pipes close. Cancel-safe.
    async fn wait(child: &mut Child, status: &mut Option<ExitStatus>, group: Pid) {
        // The only error is that the child is gone already, reaped by somebody else.
        *status = Some(child.wait().await.unwrap_or_default());
        signal(group, Signal::SIGKILL);
    }

    /// How it ended, in words; empty while it runs.
    pub(crate) fn how_it_ended(&self) -> String {
        match self.status.map(|status| (status.code(), status.signal())) {
            None => String::new(),
            Some((_, Some(9))) => "killed by signal 9 (out of memory?)".to_owned(),
            Some((_, Some(signal))) => format!("killed by signal {signal}"),
            Some((code, None)) => format!("exit code {}", code.unwrap_or_default()),
        }
    }

    /// Tells the trainer something, its last word from here: its standard input ends with it. A short line finds room in
    /// the pipe, so a trainer that does not listen is not waited for.
    pub(crate) async fn tell(&mut self, command: &TrainerCommand) -> io::Result<()> {
        let Some(mut stdin) = self.stdin.take() else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        stdin.write_all(&line).await
    }

    /// Asks the trainer to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the trainer.
    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, kind: Signal) {
        // Once it is reaped its number may belong to another.
        if self.status.is_none() {
            signal(self.group, kind);
        }
    }
}

impl Drop for TrainerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(group: Pid, signal: Signal) {
    // Fails only where no process of the group is left.
    let _ = killpg(group, signal);
}

/// Has the kernel kill the trainer when the thread that started it ends, however this process dies.
///
/// A runtime's worker threads live as long as the runtime, so a trainer must be started from async code, as it is here,
/// and not from a blocking thread.
fn die_with_this_process(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only async-signal-safe functions may run: these are prctl and getppid.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above took effect.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Lets the trainer run at a lower priority.
fn give_way(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe functions may run: nice is a system call or two.
    unsafe {
        command.pre_exec(|| {
            // Lowering it is always allowed, and what it answers may be the new value: there is no error to tell.
            nix::libc::nice(NICE);
            Ok(())
        });
    }
}

async fn forward(pipe: impl AsyncRead + Unpin, lines: mpsc::Sender<Line>, read: fn(String) -> Line) {
    let mut pipe = BufReader::new(pipe);
    // A broken pipe is an ended one.
    while let Ok(Some(text)) = next_text(&mut pipe).await {
        for line in broken(read(text)) {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    }
}

/// The next line without its end, or the next [`MAX_EVENT_BYTES`] of one that has none.
async fn next_text(pipe: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if pipe.take(MAX_EVENT_BYTES).read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

fn event_or_log(text: String) -> Line {
    match serde_json::from_str(&text) {
        Ok(event) => Line::Event(Box::new(event)),
        Err(_) => Line::Log(text),
    }
}

/// Breaks log lines that are too long.
fn broken(line: Line) -> Vec<Line> {
    match line {
        Line::Log(text) if text.len() > MAX_LOG_BYTES => {
            let mut rest = text.as_str();
            let mut lines = Vec::new();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(boundary_within(rest, MAX_LOG_BYTES));
                lines.push(Line::Log(head.to_owned()));
                rest = tail;
            }
            lines
        }
        line => vec![line],
    }
}

/// The last place, at most `bytes` from the start, where `text` may be split.
fn boundary_within(text: &str, bytes: usize) -> usize {
    (0..=bytes.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_log_lines_are_broken_at_characters() {
        let text = format!("a{}", "é".repeat(MAX_LOG_BYTES));
        let parts: Vec<String> = broken(Line::Log(text.clone()))
            .into_iter()
            .map(|line| match line {
                Line::Log(part) => part,
                Line::Event(event) => panic!("{event:?}"),
            })
            .collect();
        assert!(parts.len() > 1 && parts.iter().all(|part| part.len() <= MAX_LOG_BYTES));
        assert_eq!(parts.concat(), text);
    }

    #[test]
    fn what_is_no_event_is_a_log_line() {
        assert!(matches!(
            event_or_log("{\"event\": \"begun\"}".to_owned()),
            Line::Log(_)
        ));
        let failed = r#"{"event":"failed","class":"input","message":"no images"}"#.to_owned();
        assert!(matches!(event_or_log(failed), Line::Event(_)));
    }
}
