//! What a journal holds.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};

use super::Error;
use super::object::{self, Flaw, Rows};

/// How many superfluous objects are removed at a time: each costs a remote store a round trip.
const REMOVED_AT_ONCE: usize = 16;

/// The objects of a journal from which the state follows: the newest snapshot, if there is one, and all later ones.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) incarnation: Incarnation,
    /// Without gaps.
    objects: Vec<JournalObject>,
    /// What a snapshot has made superfluous.
    stale: Vec<JournalObject>,
}

impl History {
    /// A journal in which nothing counts but a snapshot that is still to be written.
    pub(crate) fn superseded(incarnation: Incarnation, listed: &[JournalObject]) -> Self {
        Self {
            incarnation,
            objects: Vec::new(),
            stale: of(incarnation, listed).collect(),
        }
    }

    /// The journal of an incarnation, found among these objects.
    ///
    /// # Errors
    /// One is missing in between.
    pub(crate) fn find(incarnation: Incarnation, listed: &[JournalObject]) -> Result<Self, Error> {
        let snapshots = of(incarnation, listed).filter(|object| object.first == 0);
        let snapshot = snapshots.max_by_key(|object| object.last);
        let mut last = snapshot.map_or(0, |object| object.last);
        let mut objects = Vec::from_iter(snapshot);
        let mut stale = Vec::new();
        let mut all: Vec<_> = of(incarnation, listed).collect();
        all.sort();
        for object in all {
            if Some(object) == snapshot {
                continue;
            }
            if object.last <= last {
                stale.push(object);
            } else if object.first == last + 1 {
                last = object.last;
                objects.push(object);
            } else {
                return Err(Error::Gap {
                    path: object.path(),
                    last,
                });
            }
        }
        Ok(Self {
            incarnation,
            objects,
            stale,
        })
    }

    /// The number of the last commit.
    pub(crate) fn last(&self) -> u64 {
        self.objects.last().map_or(0, |object| object.last)
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Takes in an object that was written.
    pub(crate) fn push(&mut self, object: JournalObject) {
        self.objects.push(object);
    }

    /// The name of a snapshot of all that is in it.
    pub(crate) fn snapshot(&self) -> JournalObject {
        JournalObject {
            incarnation: self.incarnation,
            first: 0,
            last: self.last(),
        }
    }

    /// Has a snapshot that was written take the place of what it was made of, which is then to be removed.
    pub(crate) fn replace(&mut self, snapshot: JournalObject) {
        let old = self.objects.iter().filter(|object| object.last <= snapshot.last);
        self.stale.extend(old);
        // One of the same commits has the same name.
        self.stale.retain(|object| *object != snapshot);
        self.objects.retain(|object| object.last > snapshot.last);
        self.objects.insert(0, snapshot);
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

    /// The rows that it leaves. Blocks for as long as it takes to read them.
    pub(crate) async fn rows(&self, store: &ArtifactStore) -> Result<Rows, Error> {
        let mut rows = Rows::new();
        for object in &self.objects {
            let text = store.read_journal(*object).await?;
            object::apply(*object, &text, &mut rows).map_err(|flaw| flawed(*object, flaw))?;
        }
        Ok(rows)
    }

    /// Whether it is whole.
    pub(crate) async fn check(&self, store: &ArtifactStore) -> Result<(), Error> {
        for object in &self.objects {
            let text = store.read_journal(*object).await?;
            object::open(*object, &text).map_err(|flaw| flawed(*object, flaw))?;
        }
        Ok(())
    }
}

/// Those of the objects that are of an incarnation's journal.
pub(crate) fn of(
    incarnation: Incarnation,
    listed: &[JournalObject],
) -> impl Iterator<Item = JournalObject> + '_ {
    let all = listed.iter().copied();
    all.filter(move |object| object.incarnation == incarnation)
}

fn flawed(object: JournalObject, flaw: Flaw) -> Error {
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
