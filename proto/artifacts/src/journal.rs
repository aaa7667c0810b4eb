//! Objects of a coordinator's journal. What is in them is the coordinator's business.
//!
//! An object is named by the commits that it holds, with zeros in front, so that names sort. One whose first commit is 0 holds
//! everything up to its last: a snapshot. One is as small as a commit or, as a snapshot, larger than memory.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::{GetResult, GetResultPayload, ObjectStoreExt as _, WriteMultipart};
use tokio_util::io::ReaderStream;

use crate::blobs::{PART_BYTES, PARTS_IN_FLIGHT, READ_BYTES, finished};
use crate::{ArtifactStore, Error};

/// The folder of all journals.
const FOLDER: &str = "journal";

/// Which state a journal is of: drawn when that was made. Sixteen hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Text is no incarnation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no incarnation: expected 16 hexadecimal digits")]
pub struct NoIncarnation(String);

impl FromStr for Incarnation {
    type Err = NoIncarnation;
    fn from_str(text: &str) -> Result<Self, NoIncarnation> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| NoIncarnation(text.to_owned()))
    }
}

/// Name of one object of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalObject {
    /// Whose journal it belongs to.
    pub incarnation: Incarnation,
    /// Number of its first commit; 0 in a snapshot.
    pub first: u64,
    /// Number of its last commit.
    pub last: u64,
}

impl JournalObject {
    /// Its path in the store.
    pub fn path(&self) -> String {
        let Self {
            incarnation,
            first,
            last,
        } = self;
        format!("{FOLDER}/{incarnation}/{first:020}-{last:020}.jsonl")
    }

    /// The object at `name` below the folder of all journals; `None` for files of other people.
    fn read_path(name: &str) -> Option<Self> {
        let (incarnation, name) = name.split_once('/')?;
        let (first, last) = name.strip_suffix(".jsonl")?.split_once('-')?;
        let object = Self {
            incarnation: incarnation.parse().ok()?,
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        };
        (object.path() == format!("{FOLDER}/{incarnation}/{name}")).then_some(object)
    }
}

impl ArtifactStore {
    /// Writes an object of a journal, in place of an earlier one of the same name.
    pub async fn write_journal(&self, object: JournalObject, content: Bytes) -> Result<(), Error> {
        let path = object.path();
        let put = self.store.put(&self.at(&path), content.into()).await;
        put.map_err(|error| Error::store(path, error)).map(drop)
    }

    /// Writes an object of a journal of which not all is in memory, and returns its size in bytes. It appears complete, or not at
    /// all: nothing is kept where the stream or the store fails. About 40 MiB are held.
    ///
    /// # Errors
    /// The stream's first, or the store's.
    pub async fn write_large_journal<E: From<Error>>(
        &self,
        object: JournalObject,
        content: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<u64, E> {
        let path = object.path();
        let failed = |error| E::from(Error::store(&path, error));
        let upload = self.store.put_multipart(&self.at(&path)).await;
        let mut upload = WriteMultipart::new_with_chunk_size(upload.map_err(failed)?, PART_BYTES);
        let mut content = std::pin::pin!(content);
        let written = async {
            let mut bytes = 0;
            while let Some(piece) = content.next().await.transpose()? {
                bytes += piece.len() as u64;
                upload.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(failed)?;
                upload.put(piece);
            }
            Ok(bytes)
        }
        .await;
        finished(upload, written, failed).await
    }

    /// Reads an object of a journal.
    pub async fn read_journal(&self, object: JournalObject) -> Result<Bytes, Error> {
        let path = object.path();
        let failed = |error| unread(&path, error);
        let got = self.store.get(&self.at(&path)).await.map_err(failed)?;
        got.bytes().await.map_err(failed)
    }

    /// Reads an object of a journal in pieces of about 1 MiB, or as the store hands them out.
    pub async fn read_large_journal(
        &self,
        object: JournalObject,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let path = object.path();
        let got = self.store.get(&self.at(&path)).await;
        let got = got.map_err(|error| unread(&path, error))?;
        Ok(pieces(path, got))
    }

    /// Removes an object of a journal; one that is not there is as good as removed.
    pub async fn remove_journal(&self, object: JournalObject) -> Result<(), Error> {
        let path = object.path();
        match self.store.delete(&self.at(&path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::store(format!("removing {path}"), error)),
        }
    }

    /// The objects of all journals, in order.
    pub async fn list_journals(&self) -> Result<Vec<JournalObject>, Error> {
        let folder = self.at(FOLDER);
        let found = self.store.list(Some(&folder)).try_filter_map(|meta| {
            let parts = meta.location.prefix_match(&folder).map(|parts| {
                parts
                    .map(|part| part.as_ref().to_owned())
                    .collect::<Vec<_>>()
                    .join("/")
            });
            futures::future::ready(Ok(parts.and_then(|name| JournalObject::read_path(&name))))
        });
        let mut objects: Vec<JournalObject> = found
            .try_collect()
            .await
            .map_err(|error| Error::store(format!("listing {FOLDER}"), error))?;
        objects.sort();
        Ok(objects)
    }
}

/// The content of the object at `path`.
fn pieces(path: String, got: GetResult) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let pieces = match got.payload {
        // In larger pieces than the store's client has: each costs a way to another thread.
        GetResultPayload::File(file, _) => {
            let file = tokio::fs::File::from_std(file);
            let pieces = ReaderStream::with_capacity(file, READ_BYTES);
            let failed = |error: std::io::Error| object_store::Error::Generic {
                store: "LocalFileSystem",
                source: error.into(),
            };
            pieces.map_err(failed).boxed()
        }
        GetResultPayload::Stream(pieces) => pieces,
    };
    pieces.map_err(move |error| unread(&path, error))
}

/// Why the object at `path` could not be read.
fn unread(path: &str, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::JournalMissing(path.to_owned()),
        error => Error::store(format!("reading {path}"), error),
    }
}
