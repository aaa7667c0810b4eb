//! The text of a journal's objects: JSON, a line each.
//!
//! ```text
//! {"format":2,"incarnation":"…","first":8,"last":9}             what it is
//! {"commit":8,"key":"6a00…","version":4,"value":{…}}            a row that was put: key in hexadecimal digits, value and its
//!                                                               version as kept
//! {"commit":9,"key":"7300…"}                                    a row that was removed
//! {"lines":2,"digest":"…"}                                      blake3 of all before
//! ```
//!
//! Commits are in order. An object of several merged ones holds the last change of each row alone, as the line that it was, with
//! its commit; a removal, too, as long as there are older objects, which may hold the row. A snapshot has all rows at
//! one commit, as long as nothing was merged with it.
//!
//! An artifact store shows an object only once it is there in full. So one without its last line, or with another digest, was
//! complete when it was acknowledged, and has been damaged since: that is never passed over.

use bytes::Bytes;
use nettailor_artifacts::JournalObject;
use nettailor_domain::ids::Digest;
pub(crate) use nettailor_engine::Rows;
use nettailor_engine::{Change, Encoded, Row, RowKey};
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Version of the objects. The rows have their own. 2: values are not text in text.
pub(crate) const FORMAT: u32 = 2;
/// Bytes of a piece, from which on it is handed over.
pub(super) const PIECE_BYTES: usize = 4 << 20;
/// Bytes of a line at most, far more than a row has that came in a message. What is longer was damaged, and is not read on: it
/// would be held until the next line begins.
const LINE_BYTES: usize = 8 * MAX_MESSAGE_BYTES;
/// What is wrong with an object without its end.
const CUT_OFF: &str = "it is cut off";

/// Why an object cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not what was written.
    Damaged(String),
    /// It has this format.
    Format(u32),
}

impl<T: Into<String>> From<T> for Flaw {
    fn from(what: T) -> Self {
        Self::Damaged(what.into())
    }
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Header {
    format: u32,
    incarnation: String,
    first: u64,
    last: u64,
}

#[derive(Deserialize)]
pub(super) struct Line<'a> {
    commit: u64,
    pub(super) key: &'a str,
    #[serde(default)]
    version: u8,
    #[serde(borrow)]
    pub(super) value: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Flaw> {
        serde_json::from_slice(line).map_err(|error| error.to_string().into())
    }
}

#[derive(Serialize, Deserialize)]
struct End {
    lines: usize,
    digest: Digest,
}

/// What a commit has changed, as lines. How far attempts are is left out: it is of use only while they run.
pub(crate) fn lines(commit: u64, changes: &[Encoded]) -> Vec<u8> {
    let mut text = Vec::new();
    for Encoded { change, key, value } in changes {
        if !matches!(
            change,
            Change::Put(Row::Progress(..)) | Change::Remove(RowKey::Progress(_))
        ) {
            write(&mut text, commit, key, value.as_deref());
        }
    }
    text
}

/// Adds the line of a row in a snapshot at this commit, if it has one.
pub(crate) fn row(text: &mut Vec<u8>, commit: u64, row: &Row) {
    if !matches!(row, Row::Progress(..)) {
        write(text, commit, &row.key().encode(), Some(&row.encode()));
    }
}

/// An object of these lines.
pub(crate) fn seal(object: JournalObject, lines: &[u8]) -> Bytes {
    let mut pieces = Pieces::new(object, lines.len());
    pieces.text().extend_from_slice(lines);
    pieces.end()
}

/// Makes an object of which not all is in memory.
pub(crate) struct Pieces {
    /// What is not handed over yet, and how much of it is in the digest.
    text: Vec<u8>,
    hashed: usize,
    hasher: blake3::Hasher,
    /// With the header.
    lines: usize,
}

impl Pieces {
    /// Begins an object of about this many bytes of lines, or of pieces of about this many.
    pub(crate) fn new(object: JournalObject, bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes + 512);
        append(&mut text, &header(object));
        Self {
            text,
            hashed: 0,
            hasher: blake3::Hasher::new(),
            lines: 0,
        }
    }

    /// Where lines, or their parts, are added.
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Adds a row as it is kept.
    pub(crate) fn row(&mut self, commit: u64, key: &[u8], value: &[u8]) {
        write(&mut self.text, commit, key, Some(value));
    }

    /// What was added since the last piece, once it is [`PIECE_BYTES`].
    pub(crate) fn piece(&mut self) -> Option<Bytes> {
        if self.text.len() < PIECE_BYTES {
            return None;
        }
        self.hash();
        self.hashed = 0;
        let next = Vec::with_capacity(self.text.capacity());
        Some(std::mem::replace(&mut self.text, next).into())
    }

    /// The last piece.
    pub(crate) fn end(mut self) -> Bytes {
        self.hash();
        let end = End {
            lines: self.lines - 1,
            digest: self.hasher.finalize().into(),
        };
        append(&mut self.text, &end);
        self.text.into()
    }

    fn hash(&mut self) {
        let new = &self.text[self.hashed..];
        self.hasher.update(new);
        self.lines += new.iter().filter(|byte| **byte == b'\n').count();
        self.hashed = self.text.len();
    }
}

/// The lines of an object that is whole, or what is wrong with it.
pub(crate) fn open(object: JournalObject, text: &[u8]) -> Result<&[u8], Flaw> {
    let body = text.strip_suffix(b"\n").ok_or(CUT_OFF)?;
    let end = body.iter().rposition(|byte| *byte == b'\n');
    let (before, end) = text.split_at(end.ok_or(CUT_OFF)? + 1);
    let start = before.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    let (header, lines) = before.split_at(start);
    verify(object, header, end, Digest::of(before))?;
    Ok(lines)
}

/// Whether an object is what was written, by its first and last line and the digest of all but the last.
fn verify(object: JournalObject, first: &[u8], last: &[u8], digest: Digest) -> Result<(), Flaw> {
    let end: End = serde_json::from_slice(last).map_err(|_| CUT_OFF)?;
    if end.digest != digest {
        return Err("its digest is another".into());
    }
    let found: Header = serde_json::from_slice(first).map_err(|error| error.to_string())?;
    if found.format != FORMAT {
        return Err(Flaw::Format(found.format));
    }
    if found != header(object) {
        return Err("its content belongs to another name".into());
    }
    Ok(())
}

/// Reads an object as it comes. What its lines say counts only once [`Reader::end`] has found it whole.
pub(crate) struct Reader {
    object: JournalObject,
    header: Option<Vec<u8>>,
    /// The last line that came, and what came of the next: it may be the end.
    text: Vec<u8>,
    /// Bytes of that line.
    line: usize,
    /// Of all before.
    hasher: blake3::Hasher,
    /// What is wrong with a line.
    flaw: Option<Flaw>,
}

impl Reader {
    pub(crate) fn new(object: JournalObject) -> Self {
        Self {
            object,
            header: None,
            text: Vec::new(),
            line: 0,
            hasher: blake3::Hasher::new(),
            flaw: None,
        }
    }

    /// Takes in the next piece and shows the lines that are complete, up to the first that is found wrong.
    pub(crate) fn read(
        &mut self,
        piece: &[u8],
        mut show: impl FnMut(&[u8]) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let known = self.text.len();
        self.text.extend_from_slice(piece);
        let ends = piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let mut ends = ends.map(|(at, _)| known + at + 1);
        let Some(last) = ends.next() else {
            return match self.text.len() - self.line > LINE_BYTES {
                true => Err("a line does not end".into()),
                false => Ok(()),
            };
        };
        let before = ends.next().unwrap_or(self.line);
        self.line = last - before;
        let held = self.text.split_off(before);
        let lines = std::mem::replace(&mut self.text, held);
        self.hasher.update(&lines);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.header.is_none() {
                self.header = Some(line.to_vec());
            } else if self.flaw.is_none() {
                self.flaw = show(line).err();
            }
        }
        Ok(())
    }

    /// Says whether the object was whole.
    pub(crate) fn end(self) -> Result<(), Flaw> {
        let header = self.header.ok_or(CUT_OFF)?;
        let last = self.text.strip_suffix(b"\n").ok_or(CUT_OFF)?;
        verify(self.object, &header, last, self.hasher.finalize().into())?;
        self.flaw.map_or(Ok(()), Err)
    }
}

/// Changes rows as the lines of an object say, one after the other.
pub(crate) struct Changes<'a> {
    object: JournalObject,
    /// The commit of the line before.
    latest: u64,
    rows: &'a mut Rows,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(object: JournalObject, rows: &'a mut Rows) -> Self {
        Self {
            object,
            latest: object.first,
            rows,
        }
    }

    pub(crate) fn apply(&mut self, line: &[u8]) -> Result<(), Flaw> {
        let Line {
            commit,
            key,
            version,
            value,
        } = Line::read(line)?;
        if !(self.latest..=self.object.last).contains(&commit) {
            return Err(format!("commit {commit} is out of order").into());
        }
        self.latest = commit;
        let key = bytes_of(key).ok_or_else(|| format!("`{key}` is no key"))?;
        match value {
            Some(value) => self
                .rows
                .insert(key, [&[version], value.get().as_bytes()].concat()),
            None => self.rows.remove(&key),
        };
        Ok(())
    }
}

fn header(object: JournalObject) -> Header {
    Header {
        format: FORMAT,
        incarnation: object.incarnation.to_string(),
        first: object.first,
        last: object.last,
    }
}

/// Values are JSON after their version, and every line is one: so they are written as they are.
fn write(text: &mut Vec<u8>, commit: u64, key: &[u8], value: Option<&[u8]>) {
    text.extend_from_slice(b"{\"commit\":");
    text.extend_from_slice(commit.to_string().as_bytes());
    text.extend_from_slice(b",\"key\":\"");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend(
        key.iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| DIGITS[usize::from(digit)]),
    );
    text.push(b'"');
    if let Some((version, json)) = value.and_then(<[u8]>::split_first) {
        text.extend_from_slice(b",\"version\":");
        text.extend_from_slice(version.to_string().as_bytes());
        text.extend_from_slice(b",\"value\":");
        text.extend_from_slice(json);
    }
    text.extend_from_slice(b"}\n");
}

fn append(text: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *text, line).expect("lines have text keys, and memory takes every write");
    text.push(b'\n');
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes().chunks(2);
    digits
        .map(|pair| match pair {
            [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
            _ => None,
        })
        .collect()
}
