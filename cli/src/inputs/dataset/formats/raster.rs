//! Images that lie as bare pixels one behind the other in a few files, as CIFAR and MNIST have them.
//!
//! Each becomes a PPM or PGM file in memory: the same pixels always give the same bytes, whatever encoder there is.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::super::error::At;
use super::super::{Error, Source};

/// How a record holds its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pixels {
    /// All red, then all green, then all blue bytes, rows from the top.
    Planar {
        /// Width and height.
        side: usize,
    },
    /// One byte each, rows from the top.
    Grey {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
}

impl Pixels {
    /// Bytes of an image.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Planar { side } => 3 * side * side,
            Self::Grey { width, height } => width * height,
        }
    }

    /// An image file of these pixels.
    fn encode(self, pixels: &[u8]) -> Vec<u8> {
        match self {
            Self::Grey { width, height } => {
                [format!("P5\n{width} {height}\n255\n").as_bytes(), pixels].concat()
            }
            Self::Planar { side } => {
                let plane = side * side;
                let mut image = format!("P6\n{side} {side}\n255\n").into_bytes();
                for at in 0..plane {
                    image.extend([pixels[at], pixels[plane + at], pixels[2 * plane + at]]);
                }
                image
            }
        }
    }
}

/// A file of records of equal length.
#[derive(Debug, Clone)]
pub(super) struct RecordFile {
    /// Gzipped if its name ends so.
    pub(super) path: PathBuf,
    /// Bytes before the first record.
    pub(super) header: usize,
    /// Bytes of a record before its pixels.
    pub(super) prefix: usize,
    /// Number of records.
    pub(super) records: usize,
    /// The rest of a record.
    pub(super) pixels: Pixels,
}

/// Files of records, one behind the other.
#[derive(Debug)]
pub(super) struct Records(pub(super) Vec<RecordFile>);

impl Source for Records {
    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
        for file in &self.0 {
            let mut bytes = open(&file.path)?;
            let mut header = vec![0; file.header];
            fill(&mut bytes, &file.path, &mut header, 0)?;
            let mut record = vec![0; file.prefix + file.pixels.bytes()];
            for number in 0..file.records {
                let begin = file.header + number * record.len();
                fill(&mut bytes, &file.path, &mut record, begin)?;
                take(file.pixels.encode(&record[file.prefix..]))?;
            }
        }
        Ok(())
    }
}

/// The contents of a file, unpacked if its name ends in `.gz`.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(Error::read(path))?);
    let gzipped = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if gzipped {
        Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

/// Reads all of `buffer`, which begins at byte `begin` of the file.
pub(super) fn fill(bytes: &mut dyn Read, path: &Path, buffer: &mut [u8], begin: usize) -> Result<(), Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        match bytes.read(&mut buffer[filled..]).map_err(Error::read(path))? {
            0 => {
                let expected = format!(
                    "{} bytes from byte {begin} on; the file is cut short, fetch it again",
                    buffer.len()
                );
                let at = At::Byte((begin + filled) as u64);
                return Err(Error::content(path, at, expected, "the end of the file"));
            }
            read => filled += read,
        }
    }
    Ok(())
}

/// Expects the end of the file at byte `begin`.
pub(super) fn end(bytes: &mut dyn Read, path: &Path, begin: usize) -> Result<(), Error> {
    let more = bytes.read(&mut [0]).map_err(Error::read(path))? > 0;
    if more {
        return Err(Error::content(
            path,
            At::Byte(begin as u64),
            "the end of the file",
            "more bytes",
        ));
    }
    Ok(())
}
