//! Making a packed file: the archive is read once, in order; images are decoded side by side and written as they come.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use nettailor_domain::archive::{EntryName, Folder, Misplaced};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{CHECKSUM, IMAGES, INDEX, Index, Sample, cache, image_bytes};
use crate::data::{Error, Unreadable};

/// Room for the header, which is written last, when the number of images is known. The format allows blanks after it.
const HEADER: usize = 1024;
/// Entries decoded at a time: enough to keep every core busy.
const BATCH_ENTRIES: usize = 256;
/// Encoded bytes held at a time.
const BATCH_BYTES: usize = 64 << 20;
/// Images between two reports.
const REPORT_EVERY: usize = 2000;

/// An entry of the archive.
struct Entry {
    sample: Sample,
    encoded: Vec<u8>,
}

/// Decodes the images of `archive` to squares of `side` pixels into the file `target`.
pub(super) fn pack(
    archive: &Path,
    side: u32,
    target: &Path,
    report: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let unreadable_archive = |source| Error::Archive {
        path: archive.to_owned(),
        source,
    };
    let reader = BufReader::with_capacity(1 << 20, File::open(archive).map_err(unreadable_archive)?);
    let mut tar = tar::Archive::new(reader);
    let mut entries = tar.entries().map_err(unreadable_archive)?;
    let mut writer = Writer::create(target).map_err(cache("create", target))?;
    let mut index = Index {
        samples: vec![],
        unreadable: vec![],
        val_folder: false,
        test_folder: false,
    };
    let mut reported = 0;
    loop {
        let batch = next_batch(&mut entries, archive)?;
        if batch.is_empty() {
            break;
        }
        let decoded: Vec<_> = batch
            .par_iter()
            .map(|entry| nettailor_images::square(&entry.encoded, side))
            .collect();
        for (Entry { sample, .. }, decoded) in batch.into_iter().zip(decoded) {
            index.val_folder |= sample.folder == Folder::Val;
            index.test_folder |= sample.folder == Folder::Test;
            match decoded {
                Ok(pixels) => {
                    writer.write(&pixels).map_err(cache("write", target))?;
                    index.samples.push(sample);
                }
                Err(reason) => index.unreadable.push(Unreadable {
                    name: sample.name,
                    reason,
                }),
            }
        }
        let done = index.samples.len() + index.unreadable.len();
        if done >= reported + REPORT_EVERY {
            reported = done;
            report(&format!("decoded {done} images"));
        }
    }
    let flat = index
        .samples
        .iter()
        .filter(|sample| sample.folder == Folder::Class)
        .count();
    if flat > 0 && flat < index.samples.len() {
        let odd = index.samples.iter().find(|sample| sample.folder == Folder::Class);
        return Err(Misplaced(odd.map(|sample| sample.name.clone()).unwrap_or_default()).into());
    }
    report(&format!(
        "decoded {} images to {side} x {side} pixels",
        index.samples.len()
    ));
    writer.finish(&index, side).map_err(cache("write", target))
}

/// The next entries of the archive; none at its end.
fn next_batch(entries: &mut tar::Entries<'_, impl Read>, archive: &Path) -> Result<Vec<Entry>, Error> {
    let unreadable = |source| Error::Archive {
        path: archive.to_owned(),
        source,
    };
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable)?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(Misplaced(name).into());
        }
        let EntryName { folder, class, .. } = name.parse()?;
        let sample = Sample { name, class, folder };
        let mut encoded = Vec::new();
        entry.read_to_end(&mut encoded).map_err(unreadable)?;
        if encoded.len() as u64 != entry.size() {
            return Err(unreadable(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive is cut short",
            )));
        }
        bytes += encoded.len();
        batch.push(Entry { sample, encoded });
    }
    Ok(batch)
}

/// A safetensors file that is written from front to back, header last.
struct Writer {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    written: usize,
}

impl Writer {
    fn create(path: &Path) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(&[b' '; HEADER])?;
        Ok(Self {
            out,
            hasher: blake3::Hasher::new(),
            written: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn finish(mut self, index: &Index, side: u32) -> io::Result<()> {
        let images = TensorInfo {
            dtype: Dtype::U8,
            shape: vec![index.samples.len(), side as usize, side as usize, 3],
            data_offsets: (0, index.samples.len() * image_bytes(side)),
        };
        let json = serde_json::to_vec(index)?;
        let described = TensorInfo {
            dtype: Dtype::U8,
            shape: vec![json.len()],
            data_offsets: (self.written, self.written + json.len()),
        };
        self.write(&json)?;
        let checksum = HashMap::from([(CHECKSUM.to_owned(), self.hasher.finalize().to_hex().to_string())]);
        let tensors = vec![(IMAGES.to_owned(), images), (INDEX.to_owned(), described)];
        let header = serde_json::to_vec(&Metadata::new(Some(checksum), tensors).map_err(io::Error::other)?)?;
        let length = HEADER - size_of::<u64>();
        if header.len() > length {
            return Err(io::Error::other("the header is larger than the room kept for it"));
        }
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&(length as u64).to_le_bytes())?;
        self.out.write_all(&header)?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(())
    }
}
