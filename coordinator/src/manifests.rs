//! Manifests of models and backbones in the artifact store, written behind the commits.
//!
//! The state directory is what counts; manifests follow it, so that models can be made out without it. What is
//! still to be written is kept in memory, the newest content per manifest, and tried until it succeeds. At the start, the
//! writer finds what an earlier process did not get to.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nettailor_artifacts::{ArtifactStore, Error, Kind, Manifest};
use nettailor_domain::model::BackboneRecord;
use nettailor_scheduler::record::Record;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::Row;

/// Wait after the first failure; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How much longer than it works the writer rests: state and journal have everything already, so what is written here may
/// trail, and must not take cores and disk from commits.
const REST: u32 = 3;

/// What is still to be written. Cheap to clone. Not bounded by a number, but by what there is: one entry per manifest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manifests {
    pending: Arc<Mutex<BTreeMap<Manifest, Row>>>,
    changed: Arc<Notify>,
}

impl Manifests {
    /// Writes the manifest of this row, sooner or later.
    pub(crate) fn write(&self, row: Row) {
        if let Some(manifest) = name(&row) {
            self.lock().insert(manifest, row);
            self.changed.notify_one();
        }
    }

    /// Writes until it is stopped; then what is left is tried once more. `kept` is what the state was restored from: those
    /// of it that the store lacks, or has in an earlier state, come first.
    pub(crate) async fn run(self, store: ArtifactStore, mut kept: Vec<Row>, stop: CancellationToken) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.catch_up(&store, &mut kept, &stop).await {
                Ok(()) if stop.is_cancelled() => return,
                Ok(()) => {
                    wait = FIRST_WAIT;
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = stop.cancelled() => {}
                    }
                }
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "manifests lag behind");
                    if stop.is_cancelled() {
                        return;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.cancelled() => {}
                    }
                    wait = (2 * wait).min(LONGEST_WAIT);
                }
            }
        }
    }

    async fn catch_up(
        &self,
        store: &ArtifactStore,
        kept: &mut Vec<Row>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        if !kept.is_empty() {
            let missing = missing(store, kept).await?;
            kept.clear();
            if !missing.is_empty() {
                info!(
                    count = missing.len(),
                    "writing manifests that the artifact store lacks"
                );
            }
            for (manifest, row) in missing {
                // What was committed meanwhile is newer.
                self.lock().entry(manifest).or_insert(row);
            }
        }
        self.write_pending(store, stop).await
    }

    async fn write_pending(&self, store: &ArtifactStore, stop: &CancellationToken) -> Result<(), Error> {
        loop {
            let begun = Instant::now();
            let Some((manifest, row)) = self.lock().pop_first() else {
                return Ok(());
            };
            if let Err(error) = write(store, &manifest, &row).await {
                // What came in meanwhile is newer.
                self.lock().entry(manifest).or_insert(row);
                return Err(error);
            }
            tokio::select! {
                () = tokio::time::sleep(REST * begun.elapsed()) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Manifest, Row>> {
        // Every change under the lock leaves a valid map: a panic elsewhere leaves nothing half done.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a row has a manifest.
pub(crate) fn has_manifest(row: &Row) -> bool {
    name(row).is_some()
}

fn name(row: &Row) -> Option<Manifest> {
    match row {
        Row::Record(Record::Model(model)) => Some(Manifest::Model(model.task.clone(), model.version)),
        Row::Backbone(backbone) => Some(Manifest::Backbone(backbone.arch)),
        Row::Record(_) | Row::Progress(..) | Row::Clock(_) | Row::Journalled(_) => None,
    }
}

async fn write(store: &ArtifactStore, manifest: &Manifest, row: &Row) -> Result<(), Error> {
    match row {
        Row::Record(Record::Model(model)) => store.write_manifest(manifest, model).await,
        Row::Backbone(backbone) => store.write_manifest(manifest, backbone).await,
        Row::Record(_) | Row::Progress(..) | Row::Clock(_) | Row::Journalled(_) => Ok(()),
    }
}

/// Those of `rows` that the store lacks or has in an earlier state.
async fn missing(store: &ArtifactStore, rows: &[Row]) -> Result<Vec<(Manifest, Row)>, Error> {
    let mut present = HashSet::new();
    for kind in [Kind::Model, Kind::Backbone] {
        present.extend(store.list_manifests(kind).await?);
    }
    let mut missing = Vec::new();
    for row in rows {
        if let Some(manifest) = name(row)
            && !(present.contains(&manifest) && up_to_date(store, &manifest, row).await?)
        {
            missing.push((manifest, row.clone()));
        }
    }
    Ok(missing)
}

/// Models never change; a backbone's manifest may be an earlier one, or unreadable.
async fn up_to_date(store: &ArtifactStore, manifest: &Manifest, row: &Row) -> Result<bool, Error> {
    let Row::Backbone(backbone) = row else {
        return Ok(true);
    };
    let written = store.read_manifest::<BackboneRecord>(manifest).await;
    match written.map(|written| written == *backbone) {
        Err(Error::ManifestMissing(_) | Error::BadManifest { .. }) => Ok(false),
        other => other,
    }
}
