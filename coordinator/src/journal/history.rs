//! What a journal holds.

use std::cmp::Reverse;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};

use super::Error;
use super::merge::{self, Run};
use super::object::{self, Changes, Flaw, Reader, Rows};

/// How many superfluous objects are removed at a time: each costs a remote store a round trip.
const REMOVED_AT_ONCE: usize = 16;

/// The objects of a journal from which the state follows: those that reach furthest, one after the other.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) incarnation: Incarnation,
    /// Without gaps.
    parts: Vec<Part>,
    /// What others have made superfluous. While there are any, nothing is merged.
    stale: Vec<JournalObject>,
}

#[derive(Debug)]
struct Part {
    object: JournalObject,
    /// Its size; 0 before somebody has read or written it.
    bytes: u64,
}

impl History {
    /// A journal in which nothing counts but a snapshot that is still to be written.
    pub(crate) fn superseded(incarnation: Incarnation, listed: &[JournalObject]) -> Self {
        Self {
            incarnation,
            parts: Vec::new(),
            stale: of(incarnation, listed).collect(),
        }
    }

    /// The journal of an incarnation, found among these objects. One that lies within another is what that was made of, and was
    /// not removed yet.
    ///
    /// # Errors
    /// One is missing in between, or two overlap otherwise.
    pub(crate) fn find(incarnation: Incarnation, listed: &[JournalObject]) -> Result<Self, Error> {
        let mut all: Vec<_> = of(incarnation, listed).collect();
        all.sort_by_key(|object| (object.first, Reverse(object.last)));
        let mut history = Self::superseded(incarnation, &[]);
        for object in all {
            let last = history.last();
            if object.first == last + 1 || object.first == 0 && history.is_empty() {
                history.push(object, 0);
            } else if object.last <= last {
                history.stale.push(object);
            } else {
                return Err(Error::Gap {
                    path: object.path(),
                    last,
                });
            }
        }
        Ok(history)
    }

    /// The number of the last commit.
    pub(crate) fn last(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.object.last)
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Takes in an object of this size that was written.
    pub(crate) fn push(&mut self, object: JournalObject, bytes: u64) {
        self.parts.push(Part { object, bytes });
    }

    /// Which objects are to become one, of those whose commits go up to `mark`.
    pub(super) fn run(&self, mark: u64) -> Option<Run> {
        let settled = self.parts.iter().take_while(|part| part.object.last <= mark);
        let sizes: Vec<u64> = settled.map(|part| part.bytes).collect();
        let run = merge::run(&sizes).filter(|_| self.stale.is_empty())?;
        Some(Run {
            oldest: run.start == 0,
            objects: self.parts[run].iter().map(|part| part.object).collect(),
        })
    }

    /// Has an object of this size that was written take the place of all that lie within it, which are then to be removed.
    pub(crate) fn replace(&mut self, object: JournalObject, bytes: u64) {
        let within = |part: &Part| part.object.first >= object.first && part.object.last <= object.last;
        let at = self
            .parts
            .partition_point(|part| part.object.first < object.first);
        let old = self.parts.extract_if(.., |part| within(part));
        self.stale.extend(old.map(|part| part.object));
        // One of the same commits has the same name.
        self.stale.retain(|stale| *stale != object);
        self.parts.insert(at, Part { object, bytes });
    }

    /// An object that may have been written is to be removed: it does not count.
    pub(crate) fn discard(&mut self, object: JournalObject) {
        self.stale.push(object);
    }

    #[cfg(test)]
    pub(super) fn objects(&self) -> Vec<JournalObject> {
        self.parts.iter().map(|part| part.object).collect()
    }

    #[cfg(test)]
    pub(super) fn stale(&self) -> &[JournalObject] {
        &self.stale
    }

    /// Removes what is superfluous.
    pub(crate) async fn prune(&mut self, store: &ArtifactStore) -> Result<(), Error> {
        let remove = async |object| store.remove_journal(object).await.map(|()| object);
        let removed = stream::iter(self.stale.clone()).map(remove);
        let mut removed = removed.buffer_unordered(REMOVED_AT_ONCE);
        while let Some(object) = removed.try_next().await? {
            self.stale.retain(|stale| *stale != object);
        }
        Ok(())
    }

    /// The rows that it leaves.
    pub(crate) async fn rows(&self, store: &ArtifactStore) -> Result<Rows, Error> {
        let mut rows = Rows::new();
        for Part { object, .. } in &self.parts {
            let mut changes = Changes::new(*object, &mut rows);
            read(store, *object, |line| changes.apply(line)).await?;
        }
        Ok(rows)
    }

    /// The same once it was found to be whole, with the sizes of its objects. Holds a piece of one at a time.
    pub(crate) async fn check(mut self, store: &ArtifactStore) -> Result<Self, Error> {
        for Part { object, bytes } in &mut self.parts {
            *bytes = read(store, *object, |_| Ok(())).await?;
        }
        Ok(self)
    }
}

/// Reads an object, shows its lines, and returns its size in bytes. What the lines say counts only if it is whole.
async fn read(
    store: &ArtifactStore,
    object: JournalObject,
    mut show: impl FnMut(&[u8]) -> Result<(), Flaw>,
) -> Result<u64, Error> {
    let mut reader = Reader::new(object);
    let mut pieces = std::pin::pin!(store.read_large_journal(object).await?);
    let mut bytes = 0;
    while let Some(piece) = pieces.try_next().await? {
        bytes += piece.len() as u64;
        let read = reader.read(&piece, &mut show);
        read.map_err(|flaw| flawed(object, flaw))?;
    }
    reader.end().map_err(|flaw| flawed(object, flaw))?;
    Ok(bytes)
}

/// Those of the objects that are of an incarnation's journal.
pub(crate) fn of(
    incarnation: Incarnation,
    listed: &[JournalObject],
) -> impl Iterator<Item = JournalObject> + '_ {
    let all = listed.iter().copied();
    all.filter(move |object| object.incarnation == incarnation)
}

pub(super) fn flawed(object: JournalObject, flaw: Flaw) -> Error {
    let path = object.path();
    match flaw {
        Flaw::Damaged(what) => Error::Damaged { path, what },
        Flaw::Format(found) => Error::Format {
            path,
            found,
            known: object::FORMAT,
        },
    }
}
