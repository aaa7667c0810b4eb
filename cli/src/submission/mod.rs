//! From a tasks file on this machine to jobs on a coordinator.
//!
//! [`check::check`] reads the file and everything it names and tells all mistakes at once; [`submit`] names the inputs by
//! their digests, uploads those that the artifact store lacks, and hands in the file.

mod cache;
mod check;
mod upload;

use std::io;
use std::path::{Path, PathBuf};

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_domain::task::{BackboneInput, SourceSettings, TaskInputs};
use nettailor_proto::exit::Exit;
use nettailor_proto::status;

pub(crate) use check::{Checked, Weights};
use upload::Blob;

use crate::client::{Client, Terms};
use crate::output::Console;
use crate::views::JobView;

/// Why a tasks file was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The tasks file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The tasks file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tasks file, or what it names, is wrong.
    #[error("{} cannot be submitted:\n  {}", path.display(), problems.join("\n  "))]
    Invalid {
        /// The tasks file.
        path: PathBuf,
        /// Every mistake, one a line.
        problems: Vec<String>,
    },
    /// The file names no weights and the coordinator has none.
    #[error("the tasks file names no weights for {arch}, and none were imported")]
    NoBackbone {
        /// Which backbone.
        arch: BackboneName,
    },
    /// A file was not taken.
    #[error("cannot upload {what}")]
    Upload {
        /// Which.
        what: String,
        /// Why not.
        #[source]
        source: status::Error,
    },
    /// A file that could be read a moment ago cannot any more.
    #[error("cannot read {what} again")]
    Reread {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no longer what it was a moment ago.
    #[error("{what} changed while it was being submitted")]
    Changed {
        /// Which.
        what: String,
    },
    /// A thread of this process broke.
    #[error("reading the inputs broke off")]
    Broken(#[source] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } | Self::Invalid { .. } => Exit::Usage,
            Self::NoBackbone { .. } => Exit::NotFound,
            Self::Upload { source, .. } => source.code.into(),
            Self::Reread { .. } | Self::Changed { .. } => Exit::Conflict,
            Self::Broken(_) => Exit::Failed,
        }
    }

    pub(crate) fn hint(&self, again: &str) -> Option<String> {
        Some(match self {
            Self::Read { .. } => {
                "give the path of a tasks file; `nettailor-cli schema` describes its contents".into()
            }
            Self::NoBackbone { arch } => format!(
                "name the weights file in the tasks file (`backbone: {{arch: {arch}, weights: FILE}}`), or import it \
                 with `{again} backbone import FILE --arch {arch}`, or name images to train it on \
                 (`backbone: {{arch: {arch}, source: {{data: {{path: DIR}}}}}}`)"
            ),
            Self::Reread { .. } | Self::Changed { .. } => "submit again once nobody writes to it".into(),
            _ => return None,
        })
    }
}

/// Checks the tasks file at `path` and everything it names.
pub(crate) async fn check(path: &Path, console: &Console) -> Result<Checked, Error> {
    let (path, console) = (path.to_owned(), console.clone());
    tokio::task::spawn_blocking(move || check::check(&path, &console))
        .await
        .map_err(Error::Broken)?
}

/// Submits what was checked on these terms. Jobs in the file's order.
pub(crate) async fn submit(
    client: &Client,
    checked: Checked,
    terms: &Terms,
    console: &Console,
) -> Result<Vec<JobView>, crate::error::Error> {
    let origin = origin(client, &checked).await?;
    if let Some(line) = checked.source_line() {
        console.note(line);
    }
    let arch = checked.arch();
    let named = tokio::task::spawn_blocking(move || checked.name_data())
        .await
        .map_err(Error::Broken)??;
    let mut blobs = named.blobs;
    let backbone = match origin {
        Origin::Weights(digest, blob) => {
            blobs.extend(blob);
            BackboneInput::Weights(digest)
        }
        Origin::Source(settings) => BackboneInput::Source {
            settings,
            data: named.source.ok_or(Error::NoBackbone { arch })?,
        },
    };
    upload::missing(client, blobs, console).await?;
    let inputs = named.tasks.into_iter().map(|(task, data)| {
        let backbone = backbone.clone();
        (task, TaskInputs { backbone, data })
    });
    client.submit(&named.text, inputs, terms).await
}

/// Where the backbone's weights come from.
enum Origin {
    /// They are named, or to be uploaded.
    Weights(Digest, Option<Blob>),
    /// They are trained.
    Source(SourceSettings),
}

async fn origin(client: &Client, checked: &Checked) -> Result<Origin, crate::error::Error> {
    if let Some(settings) = checked.source() {
        return Ok(Origin::Source(settings.clone()));
    }
    if let Some(weights) = checked.weights() {
        return Ok(Origin::Weights(weights.artifact.digest, Some(weights.blob())));
    }
    let arch = checked.arch();
    let known = client
        .backbones()
        .await?
        .into_iter()
        .filter(|backbone| backbone.arch == arch);
    let newest = known
        .max_by_key(|backbone| backbone.registered_ms)
        .ok_or(Error::NoBackbone { arch })?;
    Ok(Origin::Weights(newest.weights.digest, None))
}

/// Imports a publisher's weights file and uploads it unless it is there.
pub(crate) async fn import_backbone(
    client: &Client,
    path: &Path,
    arch: BackboneName,
    console: &Console,
) -> Result<Artifact, crate::error::Error> {
    let file = path.to_owned();
    let weights = tokio::task::spawn_blocking(move || Weights::of(&file, arch))
        .await
        .map_err(Error::Broken)?;
    let weights = weights.map_err(|source| crate::error::Error::Import {
        path: path.to_owned(),
        source,
    })?;
    upload::missing(client, vec![weights.blob()], console).await?;
    Ok(weights.artifact)
}
