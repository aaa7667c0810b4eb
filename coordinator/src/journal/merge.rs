//! Merging: objects that follow each other become one, which holds the last change of each row.
//!
//! Which ones is a matter of their sizes alone. An object is merged with what follows it once that is as large as itself, up to
//! [`LARGEST`] together. So each is larger than all that follow it, but for those that are too large to be merged: there are few
//! small ones, the logarithm of what they hold. A byte is seldom written again but into an object of twice the size: some times
//! where objects are small, once where they are as large as the writer makes them.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use futures::stream;
use nettailor_artifacts::{ArtifactStore, JournalObject};

use super::Error;
use super::history::flawed;
use super::object::{self, Line, Pieces};

/// New objects after which it is looked what is to be merged.
pub(super) const MERGE_EVERY: usize = 64;
/// Bytes of the objects that become one, at most. They are in memory while that is made, and it is, too, and where their keys
/// are: two to three times as much. Sixteen of the largest objects that are written at a time; a journal of many gigabytes has
/// some hundreds of objects.
pub(super) const LARGEST: u64 = 64 << 20;

/// Which of the objects of these sizes, the oldest first, are to become one.
pub(super) fn run(sizes: &[u64]) -> Option<Range<usize>> {
    (0..sizes.len()).find_map(|first| {
        let room = LARGEST.saturating_sub(sizes[first]);
        let (mut newer, mut next) = (0, first + 1);
        while next < sizes.len() && newer + sizes[next] <= room {
            newer += sizes[next];
            next += 1;
        }
        (next > first + 1 && sizes[first] <= newer).then_some(first..next)
    })
}

/// Why objects did not become one.
#[derive(Debug)]
pub(super) enum Unmerged {
    /// They cannot be read: nothing was written.
    Unmade(Error),
    /// What they become was not written. The store may have it all the same.
    Unwritten(Error),
}

/// Objects that are to become one.
pub(super) struct Run {
    /// Two at least, which follow each other.
    pub(super) objects: Vec<JournalObject>,
    /// Whether there are none before them.
    pub(super) oldest: bool,
}

impl Run {
    /// What they become.
    pub(super) fn name(&self) -> JournalObject {
        let last = self.objects.last().map_or(0, |object| object.last);
        JournalObject {
            last,
            ..self.objects[0]
        }
    }

    /// Writes the object that they become, and returns its size in bytes. Made of the objects, not of the state, which is ahead of
    /// them.
    pub(super) async fn merge(self, store: ArtifactStore) -> Result<u64, Unmerged> {
        let name = self.name();
        let text = self.read(&store).await.map_err(Unmerged::Unmade)?;
        let text = stream::once(async { Ok::<_, Error>(text) });
        let written = store.write_large_journal(name, text).await;
        written.map_err(Unmerged::Unwritten)
    }

    async fn read(self, store: &ArtifactStore) -> Result<Bytes, Error> {
        let mut texts = Vec::new();
        for object in &self.objects {
            texts.push(store.read_journal(*object).await?);
        }
        let made = tokio::task::spawn_blocking(move || self.text(&texts));
        made.await.map_err(|_| Error::Broken)?
    }

    /// The object that they become, `texts` being theirs. Its lines are theirs, as they are and in their order.
    pub(super) fn text(&self, texts: &[Bytes]) -> Result<Bytes, Error> {
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        for (object, text) in self.objects.iter().zip(texts).rev() {
            let lines = object::open(*object, text).map_err(|flaw| flawed(*object, flaw))?;
            for line in lines.split_inclusive(|byte| *byte == b'\n').rev() {
                let Line { key, value, .. } = Line::read(line).map_err(|flaw| flawed(*object, flaw))?;
                // A row that was removed may be in an older object.
                if seen.insert(key) && (value.is_some() || !self.oldest) {
                    kept.push(line);
                }
            }
        }
        let bytes = kept.iter().map(|line| line.len()).sum();
        let mut merged = Pieces::new(self.name(), bytes);
        for line in kept.into_iter().rev() {
            merged.text().extend_from_slice(line);
        }
        Ok(merged.end())
    }
}
