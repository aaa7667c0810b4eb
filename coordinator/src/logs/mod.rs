//! Log lines of attempts, in files under the state directory.
//!
//! ```text
//! <state>/logs/<stage key>/<attempt>.jsonl      one Line as JSON per line, of all ranks, in the order of arrival
//! ```
//!
//! A stage may serve several jobs, so its log belongs to the stage; a job's log is that of its stages. Logs are for
//! people: they are written behind the driver and not flushed, and where the disk cannot follow, lines are dropped and
//! counted, while jobs go on.

mod tail;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nettailor_domain::ids::{Seat, StageKey, WorkerId};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::warn;

pub(crate) use tail::{Entry, Tail};

/// Batches that wait for the disk: a few seconds of busy trainers. When it is full, batches are dropped.
const QUEUED_BATCHES: usize = 1024;
/// Notices that a follower may lag behind before it looks at every file again.
const NOTICES: usize = 256;
/// Largest log of an attempt, bytes. What comes after is left out, and the log says so.
const LARGEST_FILE: u64 = 4 << 20;
/// Longest line, bytes; the rest of a longer one is cut off.
const LONGEST_LINE: usize = 8 << 10;

/// One line on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    time_ms: u64,
    rank: u32,
    worker: String,
    line: String,
}

/// What a rank wrote at a time.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) seat: Seat,
    pub(crate) worker: WorkerId,
    /// Milliseconds since 1970, by the worker's clock.
    pub(crate) time_ms: u64,
    pub(crate) lines: Vec<String>,
}

enum Message {
    Append(Batch),
    /// Answered once everything before it is in its file.
    Settle(oneshot::Sender<()>),
}

/// The way to the logs. Cheap to clone; the writer's thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct Logs {
    folder: Arc<Path>,
    queue: mpsc::Sender<Message>,
    written: broadcast::Sender<StageKey>,
    dropped: Arc<AtomicU64>,
}

impl Logs {
    /// Logs in `folder`, which is made if it is not there.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let (queue, messages) = mpsc::channel(QUEUED_BATCHES);
        let (written, _) = broadcast::channel(NOTICES);
        let logs = Self {
            folder: folder.into(),
            queue,
            written,
            dropped: Arc::default(),
        };
        let (folder, written, dropped) = (logs.folder.clone(), logs.written.clone(), logs.dropped.clone());
        std::thread::Builder::new()
            .name("logs".into())
            .spawn(move || write_all(&folder, messages, &written, &dropped))?;
        Ok(logs)
    }

    /// Appends to an attempt's log. Never waits.
    pub(crate) fn append(&self, batch: Batch) {
        let lines = batch.lines.len() as u64;
        if self.queue.try_send(Message::Append(batch)).is_err() {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// Waits until everything appended so far can be read.
    pub(crate) async fn settle(&self) {
        let (send, settled) = oneshot::channel();
        if self.queue.send(Message::Settle(send)).await.is_ok() {
            // An error means that the writer has ended; then nothing more will be written.
            let _ = settled.await;
        }
    }

    /// The stages whose logs grow, from now on.
    pub(crate) fn written(&self) -> broadcast::Receiver<StageKey> {
        self.written.subscribe()
    }

    /// Where the logs are.
    pub(crate) fn folder(&self) -> Arc<Path> {
        self.folder.clone()
    }
}

fn write_all(
    folder: &Path,
    mut messages: mpsc::Receiver<Message>,
    written: &broadcast::Sender<StageKey>,
    dropped: &AtomicU64,
) {
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Append(batch) => {
                match append(folder, &batch) {
                    // Nobody may be following.
                    Ok(()) => drop(written.send(batch.seat.attempt.stage)),
                    Err(error) => {
                        warn!(seat = %batch.seat, %error, "log lines cannot be written");
                        dropped.fetch_add(batch.lines.len() as u64, Ordering::Relaxed);
                    }
                }
                let lines = dropped.swap(0, Ordering::Relaxed);
                if lines > 0 {
                    warn!(lines, "log lines were dropped");
                }
            }
            Message::Settle(answer) => drop(answer.send(())),
        }
    }
}

fn append(folder: &Path, batch: &Batch) -> io::Result<()> {
    let attempt = batch.seat.attempt;
    let folder = folder.join(attempt.stage.to_string());
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}.jsonl", attempt.number));
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    if size > LARGEST_FILE {
        return Ok(());
    }
    let mut text = Vec::new();
    if torn(&file, size)? {
        text.push(b'\n');
    }
    for line in &batch.lines {
        push(&mut text, batch, shortened(line))?;
        if size + text.len() as u64 > LARGEST_FILE {
            push(
                &mut text,
                batch,
                &format!("(more than {} MiB: the rest is left out)", LARGEST_FILE >> 20),
            )?;
            break;
        }
    }
    // One write, so that a reader meets whole lines but for a crash in between.
    file.write_all(&text)
}

/// Whether the last line lacks its end, as after a crash or on a full disk: the next one would be lost with it.
fn torn(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    Ok(last != [b'\n'])
}

fn push(text: &mut Vec<u8>, batch: &Batch, line: &str) -> io::Result<()> {
    let line = Line {
        time_ms: batch.time_ms,
        rank: batch.seat.rank,
        worker: batch.worker.to_string(),
        line: line.to_owned(),
    };
    serde_json::to_writer(&mut *text, &line)?;
    text.push(b'\n');
    Ok(())
}

fn shortened(line: &str) -> &str {
    let end = (0..=line.len().min(LONGEST_LINE))
        .rev()
        .find(|&end| line.is_char_boundary(end));
    &line[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use nettailor_domain::ids::{Attempt, Digest};
    use nettailor_domain::stage::StageKind;

    use super::*;

    fn attempt(stage: &str, number: u32) -> Attempt {
        Attempt {
            stage: StageKey(Digest::of(stage.as_bytes())),
            number,
        }
    }

    fn batch(attempt: Attempt, time_ms: u64, lines: &[&str]) -> Batch {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Batch {
            seat: Seat { attempt, rank: 0 },
            worker: "w".parse().unwrap(),
            time_ms,
            lines,
        }
    }

    fn read(tail: &mut Tail) -> Vec<(String, u32, String)> {
        let mut found = Vec::new();
        tail.read_new(|entry| {
            found.push((entry.stage.to_string(), entry.attempt, entry.line));
            true
        })
        .unwrap();
        found
    }

    #[tokio::test]
    async fn lines_of_all_stages_come_oldest_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path().join("logs")).unwrap();
        let stages = vec![
            (attempt("a", 1).stage, StageKind::Teacher),
            (attempt("b", 1).stage, StageKind::Student),
        ];
        let mut tail = Tail::new(logs.folder(), stages);
        let mut written = logs.written();
        logs.append(batch(attempt("a", 1), 10, &["one", "two"]));
        logs.append(batch(attempt("b", 1), 20, &["three"]));
        logs.append(batch(attempt("a", 2), 30, &["four"]));
        logs.append(batch(attempt("other", 1), 5, &["not of this job"]));
        logs.settle().await;
        let line = |stage: &str, attempt, line: &str| (stage.to_owned(), attempt, line.to_owned());
        let first = [
            line("teacher", 1, "one"),
            line("teacher", 1, "two"),
            line("student", 1, "three"),
        ];
        assert_eq!(
            read(&mut tail),
            [&first[..], &[line("teacher", 2, "four")]].concat()
        );
        assert_eq!(written.recv().await.unwrap(), attempt("a", 1).stage);
        logs.append(batch(attempt("b", 1), 40, &["five"]));
        logs.settle().await;
        assert_eq!(read(&mut tail), [line("student", 1, "five")]);
        assert_eq!(read(&mut tail), []);
    }

    #[tokio::test]
    async fn a_torn_line_does_not_take_the_next_one_along() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path().to_owned()).unwrap();
        let stage = attempt("a", 1).stage;
        let file = folder.path().join(stage.to_string()).join("1.jsonl");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(file, r#"{"time_ms":1,"wor"#).unwrap();
        logs.append(batch(attempt("a", 1), 2, &["whole"]));
        logs.append(batch(attempt("a", 1), 3, &["too"]));
        logs.settle().await;
        let mut tail = Tail::new(logs.folder(), vec![(stage, StageKind::Teacher)]);
        let lines: Vec<String> = read(&mut tail).into_iter().map(|(_, _, line)| line).collect();
        assert_eq!(lines, ["whole", "too"]);
    }

    #[tokio::test]
    async fn a_log_that_is_too_long_ends_with_a_notice() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path().to_owned()).unwrap();
        let long = "x".repeat(2 * LONGEST_LINE);
        for _ in 0..LARGEST_FILE as usize / LONGEST_LINE + 2 {
            logs.append(batch(attempt("a", 1), 1, &[&long]));
        }
        logs.settle().await;
        let mut tail = Tail::new(logs.folder(), vec![(attempt("a", 1).stage, StageKind::Teacher)]);
        let lines = read(&mut tail);
        assert_eq!(lines[0].2.len(), LONGEST_LINE);
        assert_eq!(lines.last().unwrap().2, "(more than 4 MiB: the rest is left out)");
    }
}
