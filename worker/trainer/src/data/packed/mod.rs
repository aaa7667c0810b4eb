//! Images decoded once per node: one memory-mapped file of bytes that every stage of every job shares.
//!
//! The file is safetensors: `images` (u8, N x side x side x 3) and `index` (u8, JSON of [`Index`]), with the blake3 of
//! both together in the metadata. Its name is the digest of everything that its contents depend on. It appears by
//! renaming, complete, and is never changed; a file that does not check out is made anew.

mod writer;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use nettailor_domain::archive::Folder;
use nettailor_domain::ids::Digest;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{Error, Unreadable};

/// Raised when equal archives would be packed into other bytes.
const PACKING_VERSION: u32 = 2;
/// Folder under the node's cache.
const FOLDER: &str = "packed";
const IMAGES: &str = "images";
const INDEX: &str = "index";
const CHECKSUM: &str = "blake3";

/// What is known about the packed images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::data) struct Index {
    /// One for each image, in order.
    pub(in crate::data) samples: Vec<Sample>,
    /// Entries of the archive that are not among the images.
    pub(in crate::data) unreadable: Vec<Unreadable>,
    /// Whether the archive has a val folder, be its images readable or not.
    pub(in crate::data) val_folder: bool,
    /// Whether the archive has a test folder, be its images readable or not.
    pub(in crate::data) test_folder: bool,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::data) struct Sample {
    /// Name in the archive.
    pub(in crate::data) name: String,
    /// Name of the class folder.
    pub(in crate::data) class: String,
    pub(in crate::data) folder: Folder,
}

/// A packed file, mapped.
#[derive(Debug)]
pub(in crate::data) struct Packed {
    map: Mmap,
    /// Where the images lie in the file.
    images: Range<usize>,
    side: u32,
    index: Index,
}

impl Packed {
    /// Names, classes and folders of the images.
    pub(in crate::data) fn index(&self) -> &Index {
        &self.index
    }

    /// Side of the images, in pixels.
    pub(in crate::data) fn side(&self) -> u32 {
        self.side
    }

    /// The pixels of image `index`: side x side x 3.
    pub(in crate::data) fn image(&self, index: usize) -> &[u8] {
        let bytes = image_bytes(self.side);
        &self.map[self.images.clone()][index * bytes..(index + 1) * bytes]
    }
}

/// Maps the packed form of `archive` at `side` pixels; makes it first if this node does not have it.
///
/// Of all processes that want the same file at once, one makes it, and the others wait for a lock that the operating
/// system frees should that one die.
pub(in crate::data) fn open(
    archive: &Path,
    data: Digest,
    side: u32,
    cache_dir: &Path,
    report: &mut dyn FnMut(&str),
) -> Result<Packed, Error> {
    let folder = cache_dir.join(FOLDER);
    fs::create_dir_all(&folder).map_err(cache("create the folder", &folder))?;
    let key = Digest::of(format!("packed {PACKING_VERSION} {data} {side}").as_bytes());
    let path = folder.join(format!("{key}.safetensors"));
    if let Some(packed) = map(&path, side)? {
        return Ok(packed);
    }
    // Kept for ever, empty: removing a lock file while others wait for it would let two of them in.
    let lock_path = folder.join(format!("{key}.lock"));
    let lock = File::options()
        .create(true)
        .append(true)
        .open(&lock_path)
        .map_err(cache("create", &lock_path))?;
    if lock.try_lock().is_err() {
        report("waiting for another trainer that decodes the same images");
        lock.lock().map_err(cache("lock", &lock_path))?;
    }
    if let Some(packed) = map(&path, side)? {
        return Ok(packed);
    }
    if path.exists() {
        report("the decoded images in the node's cache are damaged; decoding them anew");
    }
    // One name only: what a killed trainer leaves behind, the next one overwrites.
    let partial = folder.join(format!("{key}.partial"));
    let written = writer::pack(archive, side, &partial, report)
        .and_then(|()| fs::rename(&partial, &path).map_err(cache("rename to", &path)));
    if let Err(error) = written {
        fs::remove_file(&partial).ok();
        return Err(error);
    }
    let unmapped = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not read back as it was written",
        )
    };
    map(&path, side)?.ok_or_else(|| cache("read", &path)(unmapped()))
}

/// The packed file at `path`; nothing if there is none, or a damaged one.
fn map(path: &Path, side: u32) -> Result<Option<Packed>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cache("open", path))?,
    };
    // SAFETY: a packed file is complete when it gets its name, and is replaced or unlinked but never written to, so
    // the mapping neither changes nor shrinks.
    let map = unsafe { Mmap::map(&file) }.map_err(cache("map", path))?;
    Ok(check(&map, side).map(|(images, index)| Packed {
        map,
        images,
        side,
        index,
    }))
}

/// Where the images lie, and their index, if the file is whole. Reads all of it, which also brings it into memory
/// for the epochs that follow.
fn check(file: &[u8], side: u32) -> Option<(Range<usize>, Index)> {
    let (header, metadata) = SafeTensors::read_metadata(file).ok()?;
    let data_start = size_of::<u64>() + header;
    let data = file.get(data_start..)?;
    let checksum = blake3::Hasher::new().update_rayon(data).finalize();
    if metadata.metadata().as_ref()?.get(CHECKSUM)? != checksum.to_hex().as_str() {
        return None;
    }
    let (images, index) = (metadata.info(IMAGES)?, metadata.info(INDEX)?);
    let index: Index = serde_json::from_slice(data.get(index.data_offsets.0..index.data_offsets.1)?).ok()?;
    let expected = [index.samples.len(), side as usize, side as usize, 3];
    if images.dtype != Dtype::U8 || images.shape != expected {
        return None;
    }
    let (begin, end) = images.data_offsets;
    Some((data_start + begin..data_start + end, index))
}

fn image_bytes(side: u32) -> usize {
    3 * side as usize * side as usize
}

fn cache(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path: PathBuf = path.to_owned();
    move |source| Error::Cache {
        operation,
        path,
        source,
    }
}
