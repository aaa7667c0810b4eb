//! The write-ahead log: commits that are not in the database yet.
//!
//! ```text
//! <state>/wal/00000000000000000008   a segment, named after its first commit
//! ```
//!
//! A segment is a sequence of frames, one for each commit: the number of the body's bytes (8 bytes, big-endian), the body's
//! blake3 digest (32 bytes), and the body, a [`Commit`] in Protocol Buffers. A commit is durable once its frame is, and only then
//! the next one is written. So all that a crash can leave behind is one frame at the end that is not whole; nothing was said of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nettailor_domain::ids::Digest;
use prost::Message as _;
use tracing::warn;

use super::directory::sync;

/// Bytes of what a frame begins with.
const LENGTH: usize = 8;
const DIGEST: usize = 32;

/// What a commit has changed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Commit {
    /// Its number: one more than that of the one before.
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    /// The rows.
    #[prost(message, repeated, tag = "2")]
    pub(super) changes: Vec<Kept>,
}

/// A row as it is kept.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Kept {
    /// Its key.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    /// Its value; none of a row that was removed.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) value: Option<Bytes>,
}

/// Why a log cannot be read or written.
#[derive(Debug)]
pub(super) enum Failed {
    /// A file of it.
    Io(io::Error),
    /// It is not what was written: where and how.
    Damaged(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The log, for its one writer.
#[derive(Debug)]
pub(super) struct Wal {
    folder: PathBuf,
    /// What is appended to, and its length.
    segment: Option<(File, u64)>,
    /// Bytes of frames since the last cut, what was found included.
    bytes: u64,
}

impl Wal {
    /// The log in a folder, and what it holds after the commit `settled`. `counted` commits were made at least. A new log is
    /// made where nothing says that there is one.
    pub(super) fn open(
        folder: PathBuf,
        formatted: bool,
        settled: u64,
        counted: u64,
    ) -> Result<(Self, Vec<Commit>), Failed> {
        if formatted && !folder.exists() {
            return Err(Failed::Damaged(format!("`{}` is missing", folder.display())));
        }
        std::fs::create_dir_all(&folder)?;
        let mut log_bytes = 0;
        let mut commits: Vec<Commit> = Vec::new();
        let mut last = settled;
        let segments = segments(&folder)?;
        for (index, first) in segments.iter().enumerate() {
            let path = folder.join(name(*first));
            let bytes = std::fs::read(&path)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let Some((commit, after)) = read_frame(rest) else {
                    let sound = bytes.len() - rest.len();
                    if index + 1 < segments.len() || last < counted || is_followed(rest) {
                        let what = format!("`{}` cannot be read from byte {sound} on", path.display());
                        return Err(Failed::Damaged(what));
                    }
                    warn!(
                        path = %path.display(),
                        bytes = rest.len(),
                        "a commit that was cut off is dropped: nothing was said of it"
                    );
                    let file = File::options().write(true).open(&path)?;
                    file.set_len(sound as u64)?;
                    break;
                };
                rest = after;
                if commit.number > last + 1 {
                    let what = format!("commits {} to {} are missing", last + 1, commit.number - 1);
                    return Err(Failed::Damaged(what));
                }
                // What has settled may still be there.
                if commit.number > last {
                    last = commit.number;
                    commits.push(commit);
                }
            }
            log_bytes += bytes.len() as u64;
            // Its last frame may be whole and not on the disk yet: what follows must not get there before it.
            if index + 1 == segments.len() {
                sync(&path)?;
            }
        }
        if last < counted {
            let what = format!("the database and its log hold {last} commits, {counted} were made");
            return Err(Failed::Damaged(what));
        }
        let wal = Self {
            folder,
            segment: None,
            bytes: log_bytes,
        };
        Ok((wal, commits))
    }

    /// Makes a commit durable.
    pub(super) fn append(&mut self, commit: &Commit) -> io::Result<()> {
        let frame = frame(commit);
        let (file, length) = match &mut self.segment {
            Some(segment) => segment,
            none => {
                let file = File::create(self.folder.join(name(commit.number)))?;
                sync(&self.folder)?;
                none.insert((file, 0))
            }
        };
        file.write_all_at(&frame, *length)?;
        file.sync_data()?;
        *length += frame.len() as u64;
        self.bytes += frame.len() as u64;
        Ok(())
    }

    /// Bytes of all commits since the last cut.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Begins a segment with the next commit.
    pub(super) fn cut(&mut self) {
        self.segment = None;
        self.bytes = 0;
    }
}

/// Removes the segments of a log that begin with these commits or earlier ones.
pub(super) fn discard(folder: &Path, last: u64) -> io::Result<()> {
    for first in segments(folder)?.into_iter().filter(|first| *first <= last) {
        std::fs::remove_file(folder.join(name(first)))?;
    }
    sync(folder)
}

/// Name of the segment that begins with a commit: sorted, they are in order.
fn name(first: u64) -> String {
    format!("{first:020}")
}

/// The first commits of a log's segments, in order.
fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let first: Option<u64> = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(first);
    }
    found.sort_unstable();
    Ok(found)
}

fn frame(commit: &Commit) -> Vec<u8> {
    let bytes = commit.encoded_len();
    let mut frame = Vec::with_capacity(LENGTH + DIGEST + bytes);
    frame.extend_from_slice(&(bytes as u64).to_be_bytes());
    frame.extend_from_slice(&[0; DIGEST]);
    commit.encode(&mut frame).expect("memory takes every write");
    let (header, body) = frame.split_at_mut(LENGTH + DIGEST);
    header[LENGTH..].copy_from_slice(Digest::of(body).as_bytes());
    frame
}

/// Whether something follows the first frame, which cannot be read: so it was not the last to be written.
fn is_followed(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return false;
    };
    let length = u64::from_be_bytes(*length).saturating_add(DIGEST as u64);
    // A length that did not get to the disk reads as 0.
    length > DIGEST as u64 && rest.len() as u64 > length
}

/// The first frame's commit, and what follows; none if it is not whole.
fn read_frame(bytes: &[u8]) -> Option<(Commit, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let (digest, rest) = rest.split_first_chunk::<DIGEST>()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    Some((Commit::decode(body).ok()?, rest))
}
