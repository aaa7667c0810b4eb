//! Reading the logs of several stages together.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nettailor_domain::ids::StageKey;
use nettailor_domain::stage::StageKind;

use super::Line;

/// One line, with what it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stage: StageKind,
    pub(crate) attempt: u32,
    pub(crate) rank: u32,
    pub(crate) worker: String,
    pub(crate) time_ms: u64,
    pub(crate) line: String,
}

/// The logs of some stages, and how far they were read.
#[derive(Debug)]
pub(crate) struct Tail {
    folder: Arc<Path>,
    stages: Vec<(StageKey, StageKind)>,
    /// Bytes read of each attempt's file.
    read: HashMap<PathBuf, u64>,
}

/// An attempt's file, with its next line.
struct Source {
    path: PathBuf,
    lines: BufReader<File>,
    stage: StageKind,
    attempt: u32,
    next: Line,
    /// Bytes up to the end of the next line.
    end: u64,
}

impl Tail {
    /// Nothing read yet.
    pub(crate) fn new(folder: Arc<Path>, stages: Vec<(StageKey, StageKind)>) -> Self {
        Self {
            folder,
            stages,
            read: HashMap::new(),
        }
    }

    /// Whether a stage is among those read.
    pub(crate) fn covers(&self, key: StageKey) -> bool {
        self.stages.iter().any(|(stage, _)| *stage == key)
    }

    /// Passes on what was written since the last call, oldest first, until `emit` answers no. Blocks on the disk.
    pub(crate) fn read_new(&mut self, mut emit: impl FnMut(Entry) -> bool) -> io::Result<()> {
        let mut sources = self.sources()?;
        // The earliest line; among equals that of the earlier stage and attempt.
        while let Some(first) = (0..sources.len()).min_by_key(|&index| sources[index].next.time_ms) {
            let source = &mut sources[first];
            self.read.insert(source.path.clone(), source.end);
            let line = match source.advance()? {
                Some(line) => line,
                None => sources.remove(first).into_last(),
            };
            if !emit(line) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn sources(&self) -> io::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for (key, stage) in &self.stages {
            for (attempt, path) in attempts(&self.folder.join(key.to_string()))? {
                let start = self.read.get(&path).copied().unwrap_or(0);
                sources.extend(Source::open(path, start, *stage, attempt)?);
            }
        }
        Ok(sources)
    }
}

impl Source {
    /// The file from byte `start`; `None` where no whole line follows.
    fn open(path: PathBuf, start: u64, stage: StageKind, attempt: u32) -> io::Result<Option<Self>> {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut lines = BufReader::new(file);
        let Some((next, length)) = next_line(&mut lines)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            path,
            lines,
            stage,
            attempt,
            next,
            end: start + length,
        }))
    }

    /// The next line, if another follows it.
    fn advance(&mut self) -> io::Result<Option<Entry>> {
        let Some((next, length)) = next_line(&mut self.lines)? else {
            return Ok(None);
        };
        self.end += length;
        let line = std::mem::replace(&mut self.next, next);
        Ok(Some(entry(self.stage, self.attempt, line)))
    }

    fn into_last(self) -> Entry {
        entry(self.stage, self.attempt, self.next)
    }
}

fn entry(stage: StageKind, attempt: u32, line: Line) -> Entry {
    Entry {
        stage,
        attempt,
        rank: line.rank,
        worker: line.worker,
        time_ms: line.time_ms,
        line: line.line,
    }
}

/// The next whole line that can be read, and the bytes up to its end. A line torn by a crash is skipped.
fn next_line(lines: &mut BufReader<File>) -> io::Result<Option<(Line, u64)>> {
    let mut length = 0;
    loop {
        let mut text = Vec::new();
        length += lines.read_until(b'\n', &mut text)? as u64;
        if text.last() != Some(&b'\n') {
            return Ok(None);
        }
        if let Ok(line) = serde_json::from_slice(&text) {
            return Ok(Some((line, length)));
        }
    }
}

/// The attempts that have a log, oldest first.
fn attempts(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jsonl")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}
