//! An image folder as one file: the form in which a data set travels and by which it is named.
//!
//! The archive is a plain tar whose bytes depend on the images' names and contents alone: entries are sorted by name,
//! and times, owners and modes are the same for all of them. Equal folders on two machines have one digest.
//! Pixels are not looked at here; the trainer names the images that it cannot read.

mod scan;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use rayon::prelude::*;

pub(crate) use scan::{Error, scan};

/// Image files read at a time, side by side: enough to hide the latency of opening small files, few enough that
/// photographs of some megabytes each stay far below a gigabyte in memory.
const READ_AHEAD: usize = 64;

/// A folder of labelled images, listed but not read.
#[derive(Debug, Clone)]
pub(crate) struct ImageFolder {
    /// Class names in label order: sorted by their bytes.
    pub(crate) classes: Vec<String>,
    /// What each split holds: `train` and perhaps `test`, or one split without a name.
    pub(crate) splits: Vec<SplitCounts>,
    /// Size of all images together, in bytes.
    pub(crate) bytes: u64,
    /// Files and folders that were passed over because they are no images or not where images are looked for.
    pub(crate) ignored: u64,
    /// Sorted by name.
    entries: Vec<Entry>,
}

/// How many images a split holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SplitCounts {
    /// `train`, `test`, or nothing where the folder has no split folders.
    pub(crate) name: Option<&'static str>,
    /// Images per class, in the order of [`ImageFolder::classes`].
    pub(crate) images: Vec<u64>,
}

impl SplitCounts {
    /// Images of all classes together.
    pub(crate) fn total(&self) -> u64 {
        self.images.iter().sum()
    }
}

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Name in the archive: `train/<class>/<file>`, `test/<class>/<file>` or `<class>/<file>`.
    name: String,
    path: PathBuf,
}

impl ImageFolder {
    /// Images of all splits together.
    pub(crate) fn images(&self) -> u64 {
        self.splits.iter().map(SplitCounts::total).sum()
    }

    /// The name and the size of this data set's archive, which is hashed without being kept.
    pub(crate) fn measure(&self) -> Result<Artifact, Error> {
        let mut counter = Counter(0);
        let digest = self.write(&mut counter)?;
        Ok(Artifact {
            digest,
            bytes: counter.0,
        })
    }

    /// Writes the archive and returns its digest.
    ///
    /// Files are read now, not when the folder was scanned: compare with an earlier digest to notice a change between.
    pub(crate) fn write(&self, out: impl Write) -> Result<Digest, Error> {
        // The buffer hands blake3 pieces that are large enough for its vector code.
        let hashing = BufWriter::with_capacity(
            1 << 17,
            Hashing {
                hasher: blake3::Hasher::new(),
                out,
            },
        );
        let mut archive = tar::Builder::new(hashing);
        for batch in self.entries.chunks(READ_AHEAD) {
            let contents: Vec<Vec<u8>> = batch
                .par_iter()
                .map(|entry| read(&entry.path))
                .collect::<Result<_, _>>()?;
            for (entry, content) in batch.iter().zip(&contents) {
                append(&mut archive, &entry.name, content).map_err(Error::Write)?;
            }
        }
        let mut buffered = archive.into_inner().map_err(Error::Write)?;
        buffered.flush().map_err(Error::Write)?;
        Ok(buffered.get_ref().hasher.finalize().into())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, content)
}

/// Counts bytes and forgets them.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes bytes on and hashes them on their way.
struct Hashing<W> {
    hasher: blake3::Hasher,
    out: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
