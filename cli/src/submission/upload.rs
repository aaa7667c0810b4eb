//! Bringing blobs to the artifact store, in pieces, without holding a data set in memory.

use std::io::{self, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_proto::limits::CHUNK_BYTES;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Error;
use crate::client::Client;
use crate::inputs::dataset::{self, DataSet};
use crate::inputs::weights;
use crate::output::Console;
use crate::quantity::bytes;

/// Pieces read ahead of the network: enough to keep it busy, a few MiB in memory.
const AHEAD: usize = 4;

/// Bytes with a name, and where they come from.
#[derive(Debug)]
pub(crate) struct Blob {
    /// For people.
    what: String,
    artifact: Artifact,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Data(DataSet),
    Weights(PathBuf, BackboneName),
}

impl Blob {
    /// The archive of a data set.
    pub(super) fn data(what: String, artifact: Artifact, data: DataSet) -> Self {
        Self {
            what,
            artifact,
            source: Source::Data(data),
        }
    }

    /// What a weights file becomes when it is imported.
    pub(super) fn weights(what: String, artifact: Artifact, path: PathBuf, arch: BackboneName) -> Self {
        Self {
            what,
            artifact,
            source: Source::Weights(path, arch),
        }
    }
}

/// Uploads those of `blobs` that the store lacks.
pub(super) async fn missing(
    client: &Client,
    mut blobs: Vec<Blob>,
    console: &Console,
) -> Result<(), crate::error::Error> {
    // Two paths may hold equal images.
    blobs.sort_by_key(|blob| blob.artifact.digest);
    blobs.dedup_by_key(|blob| blob.artifact.digest);
    let digests: Vec<Digest> = blobs.iter().map(|blob| blob.artifact.digest).collect();
    let missing = client.missing(&digests).await?;
    for blob in blobs
        .into_iter()
        .filter(|blob| missing.contains(&blob.artifact.digest))
    {
        upload(client, blob, console).await?;
    }
    Ok(())
}

async fn upload(client: &Client, blob: Blob, console: &Console) -> Result<(), Error> {
    let Blob {
        what,
        artifact,
        source,
    } = blob;
    let bar = progress(console, &what, artifact.bytes);
    let (send, chunks) = mpsc::channel(AHEAD);
    let counted = bar.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut out = Chunks {
            chunk: Vec::with_capacity(CHUNK_BYTES),
            send,
            bar: counted,
        };
        let digest = source.write(&mut out)?;
        out.flush().map(|()| digest)
    });
    let sent = client.upload(artifact, ReceiverStream::new(chunks)).await;
    let read = reader.await.map_err(Error::Broken)?;
    bar.finish_and_clear();
    match (sent, read) {
        // The coordinator counts and hashes too, but here the cause is known.
        (_, Ok(digest)) if digest != artifact.digest => Err(Error::Changed { what }),
        (_, Err(source)) if source.kind() != io::ErrorKind::BrokenPipe => Err(Error::Reread { what, source }),
        // Where reading was broken off because nobody listened any more, the answer says why.
        (Err(source), _) => Err(Error::Upload { what, source }),
        (Ok(()), _) => Ok(()),
    }
}

fn progress(console: &Console, what: &str, size: u64) -> ProgressBar {
    if !console.live() {
        console.note(format_args!("uploading {what} ({})", bytes(size)));
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("uploading {msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}");
    let bar = ProgressBar::new(size).with_message(what.to_owned());
    bar.set_style(style.expect("the template is valid"));
    bar
}

impl Source {
    /// Writes the bytes and returns their digest.
    fn write(&self, out: impl Write) -> io::Result<Digest> {
        match self {
            Self::Data(data) => data.write(out).map_err(|error| match error {
                dataset::Error::Write(source) => source,
                other => io::Error::other(other),
            }),
            Self::Weights(path, arch) => {
                let mut out = out;
                let imported = weights::import(path, *arch).map_err(io::Error::other)?;
                out.write_all(&imported.bytes)?;
                Ok(imported.digest)
            }
        }
    }
}

/// Cuts what is written into pieces and sends them. Waits while the network is behind.
struct Chunks {
    chunk: Vec<u8>,
    send: mpsc::Sender<Vec<u8>>,
    bar: ProgressBar,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(taken)
    }

    /// Sends an unfinished piece as well.
    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            Ok(())
        } else {
            self.send_chunk()
        }
    }
}

impl Chunks {
    fn send_chunk(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.bar.inc(chunk.len() as u64);
        self.send
            .blocking_send(chunk)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_of_the_agreed_size_and_lose_nothing() {
        let written: Vec<u8> = (0..CHUNK_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
        let (send, mut pieces) = mpsc::channel(AHEAD);
        let mut out = Chunks {
            chunk: Vec::new(),
            send,
            bar: ProgressBar::hidden(),
        };
        out.write_all(&written[..100]).expect("there is room");
        out.write_all(&written[100..]).expect("there is room");
        out.flush().expect("there is room");
        drop(out);
        let mut read = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            read.push(piece);
        }
        assert_eq!(
            read.iter().map(Vec::len).collect::<Vec<_>>(),
            [CHUNK_BYTES, CHUNK_BYTES, 5]
        );
        assert!(read.concat() == written);
    }

    #[test]
    fn writing_fails_when_nobody_listens() {
        let (send, pieces) = mpsc::channel(AHEAD);
        drop(pieces);
        let mut out = Chunks {
            chunk: vec![1],
            send,
            bar: ProgressBar::hidden(),
        };
        assert_eq!(
            out.flush().expect_err("no receiver").kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
