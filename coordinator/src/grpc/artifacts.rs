//! Blobs for those who cannot reach the artifact store themselves.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_proto::convert::{self, parse_all};
use nettailor_proto::v1;
use nettailor_proto::v1::artifacts_server::Artifacts;
use nettailor_proto::v1::upload_request::Part;
use tonic::{Request, Response, Status, Streaming};

use super::{Context, storage};

/// Look-ups in the artifact store at a time.
const LOOKUPS: usize = 16;

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl Artifacts for Service {
    async fn missing(
        &self,
        request: Request<v1::MissingRequest>,
    ) -> Result<Response<v1::MissingResponse>, Status> {
        let digests: Vec<Digest> = parse_all(&request.into_inner().digests, "digests")?;
        let store = &self.0.artifacts;
        let missing: Vec<Option<String>> = stream::iter(digests)
            .map(async |digest| Ok((!store.contains(digest).await?).then(|| digest.to_string())))
            .buffered(LOOKUPS)
            .try_collect()
            .await
            .map_err(storage)?;
        Ok(Response::new(v1::MissingResponse {
            digests: missing.into_iter().flatten().collect(),
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::Artifact>, Status> {
        let mut parts = request.into_inner();
        let announced: Artifact = match parts.message().await?.and_then(|first| first.part) {
            Some(Part::Artifact(artifact)) => artifact.try_into()?,
            _ => {
                return Err(
                    convert::Error::invalid("part", "the first message must announce the artifact").into(),
                );
            }
        };
        let chunks = parts.map(|part| match part?.part {
            Some(Part::Chunk(bytes)) => Ok(Bytes::from(bytes)),
            _ => Err(convert::Error::invalid("part", "bytes were expected after the first message").into()),
        });
        let stored = self
            .0
            .artifacts
            .put_stream::<Status>(announced, chunks)
            .await
            .map_err(refused)?;
        Ok(Response::new(stored.into()))
    }
}

/// What the sender did wrong stays its mistake; the rest is the store's.
fn refused(error: nettailor_artifacts::Error) -> Status {
    match error {
        nettailor_artifacts::Error::Interrupted { digest, source } => match source.downcast::<Status>() {
            Ok(status) => *status,
            Err(source) => storage(nettailor_artifacts::Error::Interrupted { digest, source }).into(),
        },
        error => storage(error).into(),
    }
}
