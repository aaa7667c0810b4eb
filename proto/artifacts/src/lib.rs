//! The artifact store: whatever stands behind an object-store URL, `file://` in this build.
//!
//! ```text
//! blobs/<digest>                 immutable, named by the blake3 of its bytes
//! models/<task>/<version>.json   manifests: what the blobs mean
//! backbones/<arch>.json
//! journal/<incarnation>/<first>-<last>.jsonl   what the coordinator's commits changed, in order
//! probe                          written by those who try whether they can write
//! ```
//!
//! - [`ArtifactStore`] (here): opening one. [`blobs`]: bytes in and out. [`manifest`]: JSON in and out.
//!   [`journal`]: objects of a coordinator's journal.
//!
//! What a write promises: once a call has returned, the object is there in full and stays, also after a power failure;
//! before, or after an error, there is nothing under its name. Object stores promise that themselves; for `file://` the
//! bytes go to `<name>#<n>` beside the final name, are fsynced, renamed, and the folder is fsynced (`object_store`'s
//! `LocalFileSystem` with `fsync` on). A process killed in between leaves a `<name>#<n>` that no reader ever sees.

pub mod blobs;
mod error;
pub mod journal;
pub mod manifest;

use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, parse_url};
use url::Url;

pub use blobs::digest_of_file;
pub use error::Error;
pub use journal::{Incarnation, JournalObject};
pub use manifest::{Kind, Manifest};

/// A handle to an artifact store; clones share it.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: Url,
}

impl ArtifactStore {
    /// Opens the store at `url`. A `file://` folder is made if it is not there.
    pub fn open(url: &Url) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable {
            url: url.to_string(),
            source,
        };
        if url.scheme() == "file" {
            let folder = url
                .to_file_path()
                .map_err(|()| Error::NotAbsolute { url: url.to_string() })?;
            std::fs::create_dir_all(&folder).map_err(|error| unreachable(Box::new(error)))?;
            let store =
                LocalFileSystem::new_with_prefix(&folder).map_err(|error| unreachable(Box::new(error)))?;
            let store = Arc::new(store.with_fsync(true));
            return Ok(Self {
                store,
                root: Path::default(),
                url: url.clone(),
            });
        }
        let (store, root) = parse_url(url).map_err(|error| unreachable(Box::new(error)))?;
        Ok(Self {
            store: store.into(),
            root,
            url: url.clone(),
        })
    }

    /// Writes a small object, always the same: whoever can do that can keep results here. A store that is full counts as
    /// one that works: room can be made while results wait.
    pub async fn probe(&self) -> Result<(), Error> {
        let put = self.store.put(&self.at("probe"), Vec::new().into()).await;
        match put.map_err(|error| Error::store("probe", error)) {
            Ok(_) | Err(Error::Full { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where the store is; another process can open it by this.
    pub fn url(&self) -> &Url {
        &self.url
    }

    fn at(&self, name: &str) -> Path {
        name.split('/')
            .fold(self.root.clone(), |path, part| path.join(part))
    }
}

/// Reads a place as people write it: a URL, or a folder.
pub fn location(text: &str) -> Result<Url, Error> {
    if text.contains("://") {
        return text.parse().map_err(|error| Error::NotAUrl {
            text: text.to_owned(),
            source: Box::new(error),
        });
    }
    folder(FilePath::new(text))
}

/// The URL of a folder; a relative one counts from the current one.
pub fn folder(path: &FilePath) -> Result<Url, Error> {
    let absolute = std::path::absolute(path).map_err(|error| Error::NotAUrl {
        text: path.display().to_string(),
        source: Box::new(error),
    })?;
    Url::from_directory_path(&absolute).map_err(|()| Error::NotAbsolute {
        url: absolute.display().to_string(),
    })
}
