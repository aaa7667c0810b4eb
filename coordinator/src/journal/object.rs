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
//! An artifact store shows an object only once it is there in full. So one without its last line, or with another digest, was
//! complete when it was acknowledged, and has been damaged since: that is never passed over.

use bytes::Bytes;
use nettailor_artifacts::JournalObject;
use nettailor_domain::ids::Digest;
pub(crate) use nettailor_engine::Rows;
use nettailor_engine::{Change, Encoded, Row, RowKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Version of the objects. The rows have their own. 2: values are not text in text.
pub(crate) const FORMAT: u32 = 2;

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
struct Line<'a> {
    commit: u64,
    key: &'a str,
    #[serde(default)]
    version: u8,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
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

/// An object of these lines.
pub(crate) fn seal(object: JournalObject, lines: &[u8]) -> Bytes {
    let text = Vec::with_capacity(lines.len() + 256);
    seal_into(text, object, |text| text.extend_from_slice(lines))
}

/// A snapshot of rows as they are kept, which are freed as they are written.
pub(crate) fn seal_rows(object: JournalObject, rows: Rows) -> Bytes {
    seal_into(Vec::new(), object, |text| write_kept(text, object.last, rows))
}

fn seal_into(mut text: Vec<u8>, object: JournalObject, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    append(&mut text, &header(object));
    let start = text.len();
    write(&mut text);
    let end = End {
        lines: text[start..].iter().filter(|byte| **byte == b'\n').count(),
        digest: Digest::of(&text),
    };
    append(&mut text, &end);
    text.into()
}

/// The lines of a snapshot at this commit, as far as it consists of these rows.
pub(crate) fn snapshot_lines<'a>(commit: u64, rows: impl IntoIterator<Item = &'a Row>) -> Vec<u8> {
    let mut text = Vec::new();
    for row in rows {
        if !matches!(row, Row::Progress(..)) {
            write(&mut text, commit, &row.key().encode(), Some(&row.encode()));
        }
    }
    text
}

/// Writes the same of rows as they are kept.
pub(crate) fn write_kept(text: &mut Vec<u8>, commit: u64, rows: Rows) {
    for (key, value) in rows {
        write(text, commit, &key, Some(&value));
    }
}

/// A snapshot of these rows.
pub(crate) fn snapshot<'a>(object: JournalObject, rows: impl IntoIterator<Item = &'a Row>) -> Bytes {
    seal(object, &snapshot_lines(object.last, rows))
}

/// The lines of an object that is whole, or what is wrong with it.
pub(crate) fn open(object: JournalObject, text: &[u8]) -> Result<&[u8], Flaw> {
    let body = text.strip_suffix(b"\n").ok_or("it is cut off")?;
    let end = body.iter().rposition(|byte| *byte == b'\n');
    let (before, end) = text.split_at(end.ok_or("it is cut off")? + 1);
    let end: End = serde_json::from_slice(end).map_err(|_| "it is cut off")?;
    if end.digest != Digest::of(before) {
        return Err("its digest is another".into());
    }
    let start = before.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    let found: Header = serde_json::from_slice(&before[..start]).map_err(|error| error.to_string())?;
    if found.format != FORMAT {
        return Err(Flaw::Format(found.format));
    }
    if found != header(object) {
        return Err("its content belongs to another name".into());
    }
    Ok(&before[start..])
}

/// Changes rows as an object says.
pub(crate) fn apply(object: JournalObject, text: &[u8], rows: &mut Rows) -> Result<(), Flaw> {
    let mut latest = object.first;
    for line in open(object, text)?.split_inclusive(|byte| *byte == b'\n') {
        let Line {
            commit,
            key,
            version,
            value,
        } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if !(latest..=object.last).contains(&commit) {
            return Err(format!("commit {commit} is out of order").into());
        }
        latest = commit;
        let key = bytes_of(key).ok_or_else(|| format!("`{key}` is no key"))?;
        match value {
            Some(value) => rows.insert(key, [&[version], value.get().as_bytes()].concat()),
            None => rows.remove(&key),
        };
    }
    Ok(())
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
