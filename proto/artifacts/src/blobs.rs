//! Bytes in and out, named by their digest.

use std::io::{self, Seek as _};
use std::path::Path as FilePath;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use object_store::{GetResultPayload, ObjectStoreExt as _, WriteMultipart};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::{ArtifactStore, Error};

/// Size of a part of a large object, bytes. Object stores want at least 5 MiB; smaller blobs are written at once.
pub(crate) const PART_BYTES: usize = 8 << 20;
/// Parts on their way at a time; with [`PART_BYTES`] it bounds the memory of one upload to about 40 MiB.
pub(crate) const PARTS_IN_FLIGHT: usize = 4;
/// Bytes read from a file at a time.
pub(crate) const READ_BYTES: usize = 1 << 20;

impl ArtifactStore {
    /// The size of a blob, bytes; `None` if it is not there.
    pub async fn size(&self, digest: Digest) -> Result<Option<u64>, Error> {
        match self.store.head(&self.blob(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::store(format!("looking for blob {digest}"), error)),
        }
    }

    /// Removes a blob; one that is not there is as good as removed.
    pub async fn remove(&self, digest: Digest) -> Result<(), Error> {
        match self.store.delete(&self.blob(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::store(format!("removing blob {digest}"), error)),
        }
    }

    /// Whether a blob is there.
    pub async fn contains(&self, digest: Digest) -> Result<bool, Error> {
        Ok(self.size(digest).await?.is_some())
    }

    /// Stores bytes.
    pub async fn put_bytes(&self, bytes: impl Into<Bytes>) -> Result<Artifact, Error> {
        let bytes = bytes.into();
        let artifact = Artifact {
            digest: Digest::of(&bytes),
            bytes: bytes.len() as u64,
        };
        self.put_stream(artifact, futures::stream::iter([Ok::<_, io::Error>(bytes)]))
            .await
    }

    /// Stores a file. It is read twice, once for its name; a file that changes in between is an [`Error::Mismatch`].
    pub async fn put_file(&self, path: &FilePath) -> Result<Artifact, Error> {
        let artifact = digest_of_file(path).await?;
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|error| Error::local(path, error))?;
        self.put_stream(artifact, ReaderStream::with_capacity(file, READ_BYTES))
            .await
    }

    /// Stores what a stream brings, which must be what was announced; else nothing is kept. A blob that is there
    /// already is not written again, and the stream is not read then; one of another size is damaged, and replaced.
    pub async fn put_stream<E>(
        &self,
        announced: Artifact,
        bytes: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Artifact, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let digest = announced.digest;
        if self.size(digest).await? == Some(announced.bytes) {
            return Ok(announced);
        }
        let mut bytes = std::pin::pin!(bytes);
        let mut hasher = blake3::Hasher::new();
        let mut head = BytesMut::new();
        while head.len() <= PART_BYTES {
            match bytes
                .next()
                .await
                .transpose()
                .map_err(|error| interrupted(digest, error))?
            {
                Some(chunk) => head.extend_from_slice(&chunk),
                None => {
                    hasher.update(&head);
                    checked(announced, found(&hasher))?;
                    let put = self.store.put(&self.blob(digest), head.freeze().into()).await;
                    put.map_err(|error| Error::store(format!("blob {digest}"), error))?;
                    return Ok(announced);
                }
            }
        }
        self.put_large(announced, head.freeze(), bytes, hasher).await
    }

    /// The rest of [`Self::put_stream`] for a blob of more than one part, `head` being what was read so far.
    async fn put_large<E>(
        &self,
        announced: Artifact,
        head: Bytes,
        rest: impl Stream<Item = Result<Bytes, E>>,
        mut hasher: blake3::Hasher,
    ) -> Result<Artifact, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let digest = announced.digest;
        let failed = |error| Error::store(format!("blob {digest}"), error);
        let upload = self
            .store
            .put_multipart(&self.blob(digest))
            .await
            .map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let head = futures::stream::iter([Ok(head)]);
        let mut chunks = std::pin::pin!(head.chain(rest.map_err(|error| interrupted(digest, error))));
        let written = async {
            while let Some(chunk) = chunks.next().await.transpose()? {
                hasher.update(&chunk);
                if hasher.count() > announced.bytes {
                    break;
                }
                upload.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(failed)?;
                upload.put(chunk);
            }
            checked(announced, found(&hasher))
        }
        .await;
        finished(upload, written, failed).await
    }

    /// Fetches a blob into the file `path`, whose folder must be there, and returns its size in bytes. The file appears
    /// complete and verified, or not at all.
    pub async fn get_to_file(&self, digest: Digest, path: &FilePath) -> Result<u64, Error> {
        let got = self
            .store
            .get(&self.blob(digest))
            .await
            .map_err(|error| match error {
                object_store::Error::NotFound { .. } => Error::BlobMissing(digest),
                error => Error::store(format!("fetching blob {digest}"), error),
            })?;
        let folder = path.parent().unwrap_or(FilePath::new("."));
        let (file, part) = tempfile::Builder::new()
            .prefix(".fetching-")
            .tempfile_in(folder)
            .map_err(|error| Error::local(folder, error))?
            .into_parts();
        let failed = |error| Error::local(path, error);
        match got.payload {
            GetResultPayload::File(mut blob, _) => {
                // The kernel copies, or shares the blocks where the file system can.
                let mut file = file;
                blocking(move || {
                    blob.rewind()?;
                    io::copy(&mut blob, &mut file)
                })
                .await
                .map_err(failed)?;
            }
            GetResultPayload::Stream(mut chunks) => {
                let mut file = tokio::fs::File::from_std(file);
                while let Some(chunk) = chunks.next().await {
                    let chunk =
                        chunk.map_err(|error| Error::store(format!("fetching blob {digest}"), error))?;
                    file.write_all(&chunk).await.map_err(failed)?;
                }
                file.flush().await.map_err(failed)?;
            }
        }
        let written = digest_of_file(&part).await?;
        if written.digest != digest {
            return Err(Error::Damaged {
                digest,
                found: written.digest,
            });
        }
        part.persist(path).map_err(|error| failed(error.error))?;
        Ok(written.bytes)
    }

    fn blob(&self, digest: Digest) -> object_store::path::Path {
        self.at(&format!("blobs/{digest}"))
    }
}

/// Digest and size of a local file.
pub async fn digest_of_file(path: &FilePath) -> Result<Artifact, Error> {
    let owned = path.to_owned();
    let hash = move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_rayon(owned)?;
        Ok(found(&hasher))
    };
    blocking(hash).await.map_err(|error| Error::local(path, error))
}

/// Ends an upload: one that was `written` in full is kept, any other is not, and its error handed back. `failed` says what an
/// error of the store is here.
pub(crate) async fn finished<T, E>(
    upload: WriteMultipart,
    written: Result<T, E>,
    failed: impl FnOnce(object_store::Error) -> E,
) -> Result<T, E> {
    match written {
        Ok(written) => upload.finish().await.map(|_| written).map_err(failed),
        Err(error) => {
            // What was written so far is of no use. The first error counts, not that of cleaning up.
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

fn found(hasher: &blake3::Hasher) -> Artifact {
    Artifact {
        digest: hasher.finalize().into(),
        bytes: hasher.count(),
    }
}

fn checked(announced: Artifact, found: Artifact) -> Result<Artifact, Error> {
    if announced == found {
        Ok(found)
    } else {
        Err(Error::Mismatch { announced, found })
    }
}

fn interrupted(digest: Digest, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Interrupted {
        digest,
        source: error.into(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
