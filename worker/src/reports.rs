//! Reports on disk: how an attempt ended outlives the agent until the coordinator has heard of it.
//!
//! They lie as files beside the folders of running attempts. One is there before it is said for the first time, and goes once it
//! is acknowledged; what is left when the agent starts again is owed still.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nettailor_domain::ids::Seat;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::ledger::Report;

/// How the name of a report ends.
const EXTENSION: &str = "report";

/// The reports in an agent's folder.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    seat: Seat,
    report: Report,
}

impl Reports {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Writes a report; it is on the disk then.
    pub(crate) async fn keep(&self, seat: Seat, report: &Report) -> io::Result<()> {
        let report = report.clone();
        let json = serde_json::to_vec(&Kept { seat, report })?;
        let (dir, path) = (self.dir.clone(), self.path(seat));
        let write = move || {
            let mut file = tempfile::NamedTempFile::new_in(&dir)?;
            file.write_all(&json)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            File::open(dir)?.sync_all()
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)?
    }

    /// Removes a report, if it was kept.
    pub(crate) async fn forget(&self, seat: Seat) {
        let path = self.path(seat);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!("cannot remove {}: {error}", path.display());
            }
            _ => {}
        }
    }

    /// What is left from an earlier life. Blocks; one that cannot be read is removed, as nobody could make sense of it.
    pub(crate) fn owed(&self) -> io::Result<Vec<(Seat, Report)>> {
        let mut owed = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !is_report(&path) {
                continue;
            }
            match serde_json::from_slice(&fs::read(&path)?) {
                Ok(Kept { seat, report }) => owed.push((seat, report)),
                Err(error) => {
                    warn!("the report {} is of no use: {error}", path.display());
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(owed)
    }

    fn path(&self, seat: Seat) -> PathBuf {
        let Seat { attempt, rank } = seat;
        let name = format!("{}-{}-{rank}.{EXTENSION}", attempt.stage, attempt.number);
        self.dir.join(name)
    }
}

/// Whether this is a file of [`Reports`].
pub(crate) fn is_report(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(EXTENSION))
}
