//! Manifests: small JSON files that say what blobs mean. Written last, after every blob they name.

use futures::TryStreamExt as _;
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::TaskName;
use object_store::ObjectStoreExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ArtifactStore, Error};

/// Version of every manifest's content.
const FORMAT: u32 = 1;

/// What manifests are about; each kind has its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A published model.
    Model,
    /// An imported backbone.
    Backbone,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Backbone => "backbones",
        }
    }
}

/// Name of one manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manifest {
    /// `models/<task>/<version>.json`
    Model(TaskName, u32),
    /// `backbones/<arch>.json`
    Backbone(BackboneName),
}

impl Manifest {
    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Model(..) => Kind::Model,
            Self::Backbone(_) => Kind::Backbone,
        }
    }

    /// Its path in the store.
    pub fn path(&self) -> String {
        let name = match self {
            Self::Model(task, version) => format!("{task}/{version}"),
            Self::Backbone(arch) => arch.to_string(),
        };
        format!("{}/{name}.json", self.kind().folder())
    }

    /// The manifest at `name` below the folder of `kind`; `None` for files of other people.
    fn read_path(kind: Kind, name: &str) -> Option<Self> {
        let name = name.strip_suffix(".json")?;
        match kind {
            Kind::Backbone => name.parse().ok().map(Self::Backbone),
            Kind::Model => {
                let (task, version) = name.split_once('/')?;
                Some(Self::Model(task.parse().ok()?, version.parse().ok()?))
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    content: T,
}

impl ArtifactStore {
    /// Writes a manifest, in place of an earlier one of the same name.
    pub async fn write_manifest(&self, manifest: &Manifest, content: &impl Serialize) -> Result<(), Error> {
        let path = manifest.path();
        let json = serde_json::to_vec_pretty(&Envelope {
            format: FORMAT,
            content,
        })
        .map_err(|error| Error::BadManifest {
            path: path.clone(),
            source: Box::new(error),
        })?;
        let put = self.store.put(&self.at(&path), json.into()).await;
        put.map_err(|error| Error::store(path, error)).map(drop)
    }

    /// Reads a manifest.
    pub async fn read_manifest<T: DeserializeOwned>(&self, manifest: &Manifest) -> Result<T, Error> {
        let path = manifest.path();
        let failed = |error| match error {
            object_store::Error::NotFound { .. } => Error::ManifestMissing(path.clone()),
            error => Error::store(format!("reading {path}"), error),
        };
        let json = self
            .store
            .get(&self.at(&path))
            .await
            .map_err(failed)?
            .bytes()
            .await
            .map_err(failed)?;
        let bad = |source| Error::BadManifest {
            path: path.clone(),
            source,
        };
        // The format first: a later one may have another content.
        let Envelope::<serde_json::Value> { format, content } =
            serde_json::from_slice(&json).map_err(|error| bad(error.into()))?;
        if format != FORMAT {
            return Err(bad(format!("format {format}, expected {FORMAT}").into()));
        }
        serde_json::from_value(content).map_err(|error| bad(error.into()))
    }

    /// The manifests of one kind, in order.
    pub async fn list_manifests(&self, kind: Kind) -> Result<Vec<Manifest>, Error> {
        let folder = self.at(kind.folder());
        let found = self.store.list(Some(&folder)).try_filter_map(|meta| {
            let parts = meta.location.prefix_match(&folder).map(|parts| {
                parts
                    .map(|part| part.as_ref().to_owned())
                    .collect::<Vec<_>>()
                    .join("/")
            });
            futures::future::ready(Ok(parts.and_then(|name| Manifest::read_path(kind, &name))))
        });
        let mut manifests: Vec<Manifest> = found
            .try_collect()
            .await
            .map_err(|error| Error::store(format!("listing {}", kind.folder()), error))?;
        manifests.sort();
        Ok(manifests)
    }
}
