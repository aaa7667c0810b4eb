//! The state directory and its journal: what is there at the start, and a database made again from the journal.
//!
//! ```text
//! <state>/incarnation      which journal is this directory's: drawn when it was made
//! <state>/rebuilding       there while a database is being made from the journal; it is not whole then
//! <state>/damaged-<ms>/    a database that was set aside, and when
//! ```
//!
//! The journal is never ahead of a database that is sound, so one that holds less than the journal is not what was left here.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};
use nettailor_engine::{Change, Encoded, State, skip_attempts};
use nettailor_proto::exit::Exit;
use nettailor_scheduler::error::RestoreError;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::ambient::{Clock, draw_incarnation};
use crate::journal::{self, History};
use crate::store::{self, FILES, Lock, Row, SledStore, Store, sync, wait_until_closed};

const INCARNATION: &str = "incarnation";
const REBUILDING: &str = "rebuilding";
/// Rows of one commit of a database that is being made.
const COMMIT: usize = 1024;

/// Why there is no state to start from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state would begin empty beside a journal.
    #[error(
        "state directory {} is empty, but the artifact store {artifacts} holds the journal of a coordinator ({}): `nettailor-coordinator rebuild --state {} --artifacts {artifacts}` makes its state again; a new coordinator needs an artifact store of its own",
        .path.display(), several(.found), .path.display()
    )]
    Empty {
        /// The directory.
        path: PathBuf,
        /// The artifact store.
        artifacts: String,
        /// The journals.
        found: Vec<(Incarnation, u64)>,
    },
    /// A store other than a directory holds less than its journal.
    #[error("the store holds {kept} commits, its journal {journalled}: it is an earlier copy")]
    Behind {
        /// Commits that are kept.
        kept: u64,
        /// Commits in the journal.
        journalled: u64,
    },
    /// Nothing is to be rebuilt.
    #[error(
        "state directory {} holds a sound database: start the coordinator on it; to go back to the journal, move {} away first",
        .path.display(), store::files()
    )]
    Sound {
        /// The directory.
        path: PathBuf,
    },
    /// There is nothing to rebuild from.
    #[error("the artifact store {artifacts} holds no journal{}: check --artifacts", .wanted.map(|id| format!(" of {id}")).unwrap_or_default())]
    NoJournal {
        /// The artifact store.
        artifacts: String,
        /// Whose.
        wanted: Option<Incarnation>,
    },
    /// It is not clear what to rebuild from.
    #[error("the artifact store {artifacts} holds several journals ({}): choose one with --incarnation", several(.found))]
    Several {
        /// The artifact store.
        artifacts: String,
        /// The journals, and their last commits.
        found: Vec<(Incarnation, u64)>,
    },
    /// The journal contradicts itself.
    #[error("the journal of {incarnation} contradicts itself: this is a defect; no database was made")]
    Contradiction {
        /// Whose.
        incarnation: Incarnation,
        /// Where.
        source: RestoreError,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The artifact store cannot be read.
    #[error(transparent)]
    Artifacts(#[from] nettailor_artifacts::Error),
    /// The database cannot be read or made.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Files of the directory cannot be read, moved or written.
    #[error("state directory {} cannot be worked on", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Empty { .. } | Self::Sound { .. } | Self::Store(store::Error::Locked { .. }) => {
                Exit::Conflict
            }
            Self::NoJournal { .. } => Exit::NotFound,
            Self::Several { .. } => Exit::Usage,
            Self::Behind { .. }
            | Self::Contradiction { .. }
            | Self::Journal(_)
            | Self::Artifacts(_)
            | Self::Store(_)
            | Self::Directory { .. } => Exit::Failed,
        }
    }
}

/// `0123456789abcdef up to commit 7, …`
fn several(found: &[(Incarnation, u64)]) -> String {
    let named: Vec<String> = found
        .iter()
        .map(|(incarnation, last)| format!("{incarnation} up to commit {last}"))
        .collect();
    named.join(", ")
}

/// A store that was opened, and the journal that goes with it.
pub(crate) struct Opened {
    pub(crate) store: Box<dyn Store>,
    pub(crate) rows: Vec<Row>,
    pub(crate) incarnation: Incarnation,
    /// The objects of all journals.
    pub(crate) listed: Vec<JournalObject>,
}

/// What was made of a journal.
#[derive(Debug)]
pub struct Rebuilt {
    /// Whose it was.
    pub incarnation: Incarnation,
    /// The last commit that it knew.
    pub commits: u64,
    /// How many rows there are.
    pub rows: usize,
    /// Where an unsound database now lies.
    pub set_aside: Option<PathBuf>,
}

/// A state directory and an artifact store. Every method blocks.
pub(crate) struct Site<'a> {
    pub(crate) path: &'a Path,
    pub(crate) artifacts: &'a ArtifactStore,
    pub(crate) runtime: &'a Handle,
}

impl Site<'_> {
    /// Opens the database; a new directory gets one. One that is damaged or lost is made again from the directory's journal.
    ///
    /// # Errors
    /// Also where a state would begin empty beside a journal, and for damage without a journal.
    pub(crate) fn open(&self) -> Result<Opened, Error> {
        let lock = Lock::take(self.path)?;
        let listed = self.list()?;
        let known = self.read_incarnation()?;
        let last = known.map_or(0, |known| last(known, &listed));
        let new = !SledStore::exists(self.path);
        if new && known.is_none() && !listed.is_empty() {
            return Err(Error::Empty {
                path: self.path.to_owned(),
                artifacts: self.artifacts.url().to_string(),
                found: journals(&listed),
            });
        }
        let found = match new && last > 0 {
            true => Err(self.damaged("the database is missing")),
            false => self.load(lock.clone()),
        };
        let found = found.and_then(|(store, rows)| match State::journalled(&rows) {
            kept if kept < last => Err(self.damaged(&format!(
                "the database holds {kept} commits, its journal {last}: it is an earlier copy"
            ))),
            _ => Ok((store, rows)),
        });
        match (found, known) {
            (Ok((store, rows)), known) => {
                if known.is_none() && State::journalled(&rows) > 0 {
                    warn!(
                        found = several(&journals(&listed)),
                        "the state directory's file `{INCARNATION}` is lost: a new journal begins; the directory's old one is not \
                         continued, and stays in the artifact store"
                    );
                }
                Ok(Opened {
                    store: Box::new(store),
                    rows,
                    incarnation: known.map_or_else(|| self.new_incarnation(), Ok)?,
                    listed,
                })
            }
            (Err(error @ store::Error::Damaged { .. }), Some(known)) if last > 0 => {
                warn!("{error}");
                let (store, rows, rebuilt) = self.make_again(lock, known, &listed)?;
                warn!(
                    incarnation = %known,
                    commits = rebuilt.commits,
                    set_aside = rebuilt.set_aside.as_ref().map(|path| path.display().to_string()),
                    "the state was made again from the journal; what was reported in the last second before the damage may be missing"
                );
                Ok(Opened {
                    store: Box::new(store),
                    rows,
                    incarnation: known,
                    listed: self.list()?,
                })
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// The same for a store that lies elsewhere: its journal's name is still the directory's.
    pub(crate) fn adopt(&self, mut store: Box<dyn Store>) -> Result<Opened, Error> {
        std::fs::create_dir_all(self.path).map_err(|source| self.failed(source))?;
        let rows = store.load()?;
        let listed = self.list()?;
        let incarnation = match self.read_incarnation()? {
            Some(known) => known,
            None => self.new_incarnation()?,
        };
        let (kept, journalled) = (State::journalled(&rows), last(incarnation, &listed));
        if kept < journalled {
            return Err(Error::Behind { kept, journalled });
        }
        Ok(Opened {
            store,
            rows,
            incarnation,
            listed,
        })
    }

    /// Makes the database from a journal: the one that is asked for, or the directory's, or the only one there is.
    ///
    /// # Errors
    /// Also where the database is sound.
    pub(crate) fn rebuild(&self, wanted: Option<Incarnation>) -> Result<Rebuilt, Error> {
        let lock = Lock::take(self.path)?;
        if SledStore::exists(self.path) {
            match self.load(lock.clone()) {
                Ok((_, rows)) if rows.is_empty() => {}
                Ok(_) => {
                    return Err(Error::Sound {
                        path: self.path.to_owned(),
                    });
                }
                Err(error @ (store::Error::Damaged { .. } | store::Error::Database { .. })) => {
                    warn!("{error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let listed = self.list()?;
        let incarnation = self.choose(wanted, &listed)?;
        let (_, _, rebuilt) = self.make_again(lock, incarnation, &listed)?;
        Ok(rebuilt)
    }

    fn choose(&self, wanted: Option<Incarnation>, listed: &[JournalObject]) -> Result<Incarnation, Error> {
        let artifacts = self.artifacts.url().to_string();
        let found = journals(listed);
        let there = |id: &Incarnation| found.iter().any(|(found, _)| found == id);
        if let Some(wanted) = wanted {
            let missing = Error::NoJournal {
                artifacts,
                wanted: Some(wanted),
            };
            return Some(wanted).filter(there).ok_or(missing);
        }
        if let Some(known) = self.read_incarnation()?.filter(there) {
            return Ok(known);
        }
        match found[..] {
            [] => Err(Error::NoJournal {
                artifacts,
                wanted: None,
            }),
            [(only, _)] => Ok(only),
            _ => Err(Error::Several { artifacts, found }),
        }
    }

    /// Opens the database and reads it.
    fn load(&self, lock: Lock) -> Result<(SledStore, Vec<Row>), store::Error> {
        if self.path.join(REBUILDING).exists() {
            return Err(self.damaged("a rebuild was cut off"));
        }
        let mut store = SledStore::open_locked(self.path, lock)?;
        let rows = store.load()?;
        Ok((store, rows))
    }

    /// Makes the database of what the journal knows. Nothing in the directory is touched before that is found to be sound.
    fn make_again(
        &self,
        lock: Lock,
        incarnation: Incarnation,
        listed: &[JournalObject],
    ) -> Result<(SledStore, Vec<Row>, Rebuilt), Error> {
        let history = History::find(incarnation, listed)?;
        let commits = history.last();
        let mut rows = journal::decode(self.runtime.block_on(history.rows(self.artifacts))?)?;
        skip_attempts(&mut rows);
        rows.retain(|row| !matches!(row, Row::Journalled(_)));
        // What was skipped is a commit of its own: were the directory lost again, it would be known.
        rows.push(Row::Journalled(commits + 1));
        let now = Clock::start(State::elapsed(&rows)).round();
        State::restore(nettailor_scheduler::Config::default(), rows.clone(), now)
            .map_err(|source| Error::Contradiction { incarnation, source })?;
        let name = JournalObject {
            incarnation,
            first: 0,
            last: commits + 1,
        };
        journal::write_snapshot(self.artifacts, self.runtime, name, &rows)?;

        let set_aside = self.set_aside(now.wall_ms)?;
        self.write(INCARNATION, &incarnation.to_string())?;
        self.write(REBUILDING, &incarnation.to_string())?;
        let mut store = SledStore::open_locked(self.path, lock)?;
        for rows in rows.chunks(COMMIT) {
            let changes: Vec<Encoded> = rows.iter().cloned().map(|row| Change::Put(row).into()).collect();
            store.commit(&changes)?;
        }
        std::fs::remove_file(self.path.join(REBUILDING))
            .and_then(|()| sync(self.path))
            .map_err(|source| self.failed(source))?;
        let rebuilt = Rebuilt {
            incarnation,
            commits,
            rows: rows.len(),
            set_aside,
        };
        info!(state = %self.path.display(), rows = rebuilt.rows, "database made");
        Ok((store, rows, rebuilt))
    }

    /// Moves what is there of a database out of the way.
    fn set_aside(&self, now_ms: u64) -> Result<Option<PathBuf>, Error> {
        wait_until_closed(self.path);
        let names: Vec<&str> = FILES
            .into_iter()
            .chain([REBUILDING])
            .filter(|name| self.path.join(name).exists())
            .collect();
        if names.is_empty() {
            return Ok(None);
        }
        let aside = self.path.join(format!("damaged-{now_ms}"));
        let moved = || {
            std::fs::create_dir_all(&aside)?;
            for name in names {
                std::fs::rename(self.path.join(name), aside.join(name))?;
            }
            sync(&aside)?;
            sync(self.path)
        };
        moved().map_err(|source| self.failed(source))?;
        Ok(Some(aside))
    }

    fn list(&self) -> Result<Vec<JournalObject>, Error> {
        Ok(self.runtime.block_on(self.artifacts.list_journals())?)
    }

    /// The directory's incarnation. One that cannot be read is as good as none: nothing is known of its journal.
    fn read_incarnation(&self) -> Result<Option<Incarnation>, Error> {
        let path = self.path.join(INCARNATION);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let read = std::str::from_utf8(&bytes).ok();
                let read = read.and_then(|text| text.trim().parse().ok());
                if read.is_none() {
                    warn!("{} holds no incarnation", path.display());
                }
                Ok(read)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn new_incarnation(&self) -> Result<Incarnation, Error> {
        let incarnation = draw_incarnation();
        self.write(INCARNATION, &incarnation.to_string())?;
        Ok(incarnation)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let new = self.path.join(format!("{name}.new"));
        let written = || {
            std::fs::write(&new, format!("{text}\n"))?;
            sync(&new)?;
            std::fs::rename(&new, self.path.join(name))?;
            sync(self.path)
        };
        written().map_err(|source| self.failed(source))
    }

    fn damaged(&self, what: &str) -> store::Error {
        store::Error::Damaged {
            path: self.path.to_owned(),
            what: what.into(),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Directory {
            path: self.path.to_owned(),
            source,
        }
    }
}

/// The last commit that an incarnation's journal names.
fn last(incarnation: Incarnation, listed: &[JournalObject]) -> u64 {
    let objects = journal::of(incarnation, listed);
    objects.map(|object| object.last).max().unwrap_or(0)
}

/// The incarnations that have a journal, with their last commits.
fn journals(listed: &[JournalObject]) -> Vec<(Incarnation, u64)> {
    let mut all: Vec<Incarnation> = listed.iter().map(|object| object.incarnation).collect();
    all.sort();
    all.dedup();
    all.into_iter().map(|one| (one, last(one, listed))).collect()
}
