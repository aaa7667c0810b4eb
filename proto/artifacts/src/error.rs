//! What can go wrong with the artifact store.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;

type Source = Box<dyn StdError + Send + Sync>;

/// Why something could not be stored or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a URL nor a folder.
    #[error(
        "`{text}` is no place for artifacts: expected a folder or a URL such as file:///var/lib/nettailor/artifacts"
    )]
    NotAUrl {
        /// As given.
        text: String,
        /// Why.
        source: Source,
    },
    /// A `file://` URL that other processes would read differently.
    #[error("artifact store `{url}`: expected an absolute path, as in file:///var/lib/nettailor/artifacts")]
    NotAbsolute {
        /// As given.
        url: String,
    },
    /// The store cannot be opened.
    #[error("artifact store {url} cannot be opened: check the address and, for a folder, its permissions")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: Source,
    },
    /// No space is left, in the store or on the local disk.
    #[error("no space is left to write {what}: free some, or grow the volume")]
    Full {
        /// What was being written.
        what: String,
        /// The system's error.
        source: Source,
    },
    /// A blob is not in the store.
    #[error("blob {0} is not in the artifact store")]
    BlobMissing(Digest),
    /// A manifest is not in the store.
    #[error("{0} is not in the artifact store")]
    ManifestMissing(String),
    /// An object of a journal is not in the store.
    #[error("{0} is not in the artifact store")]
    JournalMissing(String),
    /// Bytes are not what their name says. Nothing was kept.
    #[error("blob {}: {} bytes were announced, but {} bytes with digest {} came", .announced.digest, .announced.bytes, .found.bytes, .found.digest)]
    Mismatch {
        /// What they should be.
        announced: Artifact,
        /// What they are.
        found: Artifact,
    },
    /// A stored blob is damaged.
    #[error(
        "blob {digest} is damaged: its bytes have digest {found}; remove it from the artifact store and upload it again"
    )]
    Damaged {
        /// Its name.
        digest: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// A manifest cannot be read.
    #[error("{path} in the artifact store is not a manifest of this version")]
    BadManifest {
        /// Which.
        path: String,
        /// Why.
        source: Source,
    },
    /// A file on this machine cannot be read or written.
    #[error("{}", .path.display())]
    Local {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever was sending the bytes stopped.
    #[error("blob {digest} was not received in full")]
    Interrupted {
        /// Which.
        digest: Digest,
        /// Why.
        source: Source,
    },
    /// The store failed otherwise.
    #[error("the artifact store failed at {what}")]
    Store {
        /// What was being done.
        what: String,
        /// Why.
        source: object_store::Error,
    },
}

impl Error {
    /// Sorts an error of the store: a full disk is told apart from the rest.
    pub(crate) fn store(what: impl Into<String>, source: object_store::Error) -> Self {
        let what = what.into();
        if is_full(&source) {
            return Self::Full {
                what,
                source: Box::new(source),
            };
        }
        Self::Store { what, source }
    }

    /// Sorts an error of the local file system.
    pub(crate) fn local(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if is_full(&source) {
            return Self::Full {
                what: path.display().to_string(),
                source: Box::new(source),
            };
        }
        Self::Local { path, source }
    }
}

fn is_full(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_below_other_errors() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let wrapped = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(full),
        };
        assert!(matches!(Error::store("blob", wrapped), Error::Full { .. }));
        let other = object_store::Error::Generic {
            store: "x",
            source: "broken".into(),
        };
        assert!(matches!(Error::store("blob", other), Error::Store { .. }));
    }
}
