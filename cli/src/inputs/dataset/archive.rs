//! The archive of a data set: a plain tar whose bytes depend on the images' names and contents alone.
//!
//! Times, owners and modes are the same for all entries. Pixels are not looked at; the trainer names the images that it
//! cannot read.

use std::io::{self, BufWriter, Write};

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;

use super::{DataSet, Error};

impl DataSet {
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
    /// Images are read now, not when they were listed: compare with an earlier digest to notice a change between.
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
        self.read(|image, content| {
            append(&mut archive, &self.entry(image).to_string(), &content).map_err(Error::Write)
        })?;
        let mut buffered = archive.into_inner().map_err(Error::Write)?;
        buffered.flush().map_err(Error::Write)?;
        Ok(buffered.get_ref().hasher.finalize().into())
    }
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
