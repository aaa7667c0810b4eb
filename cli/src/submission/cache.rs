//! Remembers what a weights file became, so that submitting it again need not convert it again.
//!
//! An entry is valid for one state of one file: its place, size, times of last change of contents and of inode. Losing
//! the cache costs a second; so does every failure to use it, which is therefore no error.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;

/// Raised when the importer's output changes for an equal input.
const IMPORTER_VERSION: u32 = 1;

/// Where one file's entry is kept.
#[derive(Debug, Clone)]
pub(super) struct Entry(PathBuf);

impl Entry {
    /// The entry for the file's present state under `folder`; `None` where the file cannot be looked at.
    pub(super) fn of(folder: &Path, file: &Path, arch: BackboneName) -> Option<Self> {
        let place = std::fs::canonicalize(file).ok()?;
        let state = std::fs::metadata(&place).ok()?;
        let identity = serde_json::json!([
            IMPORTER_VERSION,
            arch,
            place.to_str()?,
            [state.dev(), state.ino(), state.len()],
            [
                state.mtime(),
                state.mtime_nsec(),
                state.ctime(),
                state.ctime_nsec()
            ],
        ]);
        let name = Digest::of(identity.to_string().as_bytes());
        Some(Self(folder.join("imports").join(format!("{name}.json"))))
    }

    /// What the file became.
    pub(super) fn read(&self) -> Option<Artifact> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Remembers what the file became.
    pub(super) fn write(&self, artifact: &Artifact) {
        let written = serde_json::to_vec(artifact)
            .map_err(std::io::Error::from)
            .and_then(|text| {
                std::fs::create_dir_all(self.0.parent().unwrap_or(Path::new(".")))?;
                // Whole or not at all: another process may read it now.
                let half = self.0.with_extension(format!("{}.tmp", std::process::id()));
                std::fs::write(&half, text)?;
                std::fs::rename(&half, &self.0)
            });
        if let Err(error) = written {
            tracing::debug!(%error, "the import is not remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_holds_for_one_state_of_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("weights.pth");
        std::fs::write(&file, b"one").expect("written");
        let of = |arch| Entry::of(folder.path(), &file, arch).expect("the file is there");
        let artifact = Artifact {
            digest: Digest::of(b"converted"),
            bytes: 9,
        };

        assert_eq!(of(BackboneName::Lite0).read(), None);
        of(BackboneName::Lite0).write(&artifact);
        assert_eq!(of(BackboneName::Lite0).read(), Some(artifact));
        assert_eq!(of(BackboneName::Resnet18).read(), None);
        std::fs::write(&file, b"another").expect("written");
        assert_eq!(of(BackboneName::Lite0).read(), None);
        assert!(Entry::of(folder.path(), &folder.path().join("nothing"), BackboneName::Lite0).is_none());
    }
}
