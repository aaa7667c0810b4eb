//! MNIST and its kin: idx files of grey images and of labels, gzipped or not.
//!
//! idx is a magic number (two zero bytes, the type, the number of dimensions), the dimensions as 32-bit big-endian
//! numbers, and the values.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nettailor_domain::archive::Folder;
use nettailor_domain::task::DataFormat;

use super::super::error::{At, some};
use super::super::{Error, Image, Listing};
use super::raster::{self, Pixels, RecordFile, Records};

/// Type code of unsigned bytes.
const BYTES: u8 = 0x08;

/// What names of the test split's files begin with.
const TEST: [&str; 2] = ["t10k", "test"];

/// The four files of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    train: [PathBuf; 2],
    test: Option<[PathBuf; 2]>,
}

/// Names of the training images in `folder`, without what follows `train-images`: one for each data set there.
pub(in super::super) fn sets(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let set = |name: String| {
        let (set, rest) = name.split_once("train-images")?;
        ["-idx3-ubyte", ".idx3-ubyte"]
            .contains(&rest.strip_suffix(".gz").unwrap_or(rest))
            .then(|| set.to_owned())
    };
    let sets: BTreeSet<String> = names.filter_map(set).collect();
    sets.into_iter().collect()
}

/// Every name that a file of the data set may have, which has `set` before it.
pub(in super::super) fn files(set: &str) -> Vec<String> {
    let splits = ["train"].into_iter().chain(TEST);
    let parts = splits.flat_map(|split| {
        [
            (format!("{set}{split}-images"), 3),
            (format!("{set}{split}-labels"), 1),
        ]
    });
    parts
        .flat_map(|(part, dimensions)| names(&part, dimensions))
        .collect()
}

/// Names under which a part of a data set is looked for.
fn names(part: &str, dimensions: u8) -> Vec<String> {
    let forms = [
        format!("{part}-idx{dimensions}-ubyte"),
        format!("{part}.idx{dimensions}-ubyte"),
    ];
    forms
        .iter()
        .flat_map(|form| [form.clone(), format!("{form}.gz")])
        .collect()
}

/// Lists the images under `path`: a folder, or the file of the training images.
pub(super) fn list(path: &Path) -> Result<Listing, Error> {
    let files = find(path)?;
    let mut listed = Vec::new();
    for (folder, files) in [(Folder::Train, Some(files.train)), (Folder::Test, files.test)] {
        let Some([images, labels]) = files else { continue };
        let (records, labels) = (read_images(&images)?, read_labels(&labels)?);
        if records.records != labels.1.len() {
            let expected = format!(
                "{} labels, one for each image of {}",
                records.records,
                images.display()
            );
            return Err(Error::content(
                &labels.0,
                At::Byte(4),
                expected,
                labels.1.len().to_string(),
            ));
        }
        listed.push((folder, records, labels.1));
    }
    // The format has no names: the classes are the numbers that occur.
    let occurring: BTreeSet<u8> = listed
        .iter()
        .flat_map(|(_, _, labels)| labels.iter().copied())
        .collect();
    let classes: Vec<u8> = occurring.into_iter().collect();
    let image = |folder, (number, label): (usize, &u8)| Image {
        folder,
        label: classes.partition_point(|class| class < label),
        file: format!("{number:05}.pgm"),
    };
    let images: Vec<Image> = listed
        .iter()
        .flat_map(|(folder, _, labels)| {
            labels
                .iter()
                .enumerate()
                .map(move |numbered| image(*folder, numbered))
        })
        .collect();
    let bytes = listed
        .iter()
        .map(|(_, records, _)| (records.records * records.pixels.bytes()) as u64)
        .sum();
    Ok(Listing {
        classes: classes.iter().map(u8::to_string).collect(),
        images,
        source: Arc::new(Records(
            listed.into_iter().map(|(_, records, _)| records).collect(),
        )),
        bytes,
        ignored: 0,
        notes: vec![],
    })
}

fn find(path: &Path) -> Result<Files, Error> {
    let layout = |missing| Error::Layout {
        path: path.to_owned(),
        format: DataFormat::Mnist,
        missing,
    };
    let (folder, set) = if path.is_file() {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some((set, _)) = name.split_once("train-images") else {
            return Err(layout(
                "expected the file of the training images, *train-images-idx3-ubyte".to_owned(),
            ));
        };
        (path.parent().unwrap_or(Path::new("")).to_owned(), set.to_owned())
    } else {
        let mut sets = sets(path);
        match sets.len() {
            0 => {
                return Err(layout(
                    "expected train-images-idx3-ubyte (or .gz) there".to_owned(),
                ));
            }
            1 => (path.to_owned(), sets.remove(0)),
            _ => {
                let files: Vec<String> = sets.iter().map(|set| format!("{set}train-images...")).collect();
                let text = format!(
                    "found several, {}; give the path of one of these files",
                    some(&files)
                );
                return Err(layout(text));
            }
        }
    };
    let file = |part: &str, dimensions| {
        let names = names(&format!("{set}{part}"), dimensions);
        names
            .into_iter()
            .map(|name| folder.join(name))
            .find(|file| file.is_file())
    };
    let needed = |part: &str, dimensions| {
        file(part, dimensions).ok_or_else(|| {
            layout(format!(
                "expected {set}{part}-idx{dimensions}-ubyte (or .gz) in {}",
                folder.display()
            ))
        })
    };
    let test = TEST
        .into_iter()
        .find_map(|test| Some((test, file(&format!("{test}-images"), 3)?)));
    Ok(Files {
        train: [needed("train-images", 3)?, needed("train-labels", 1)?],
        test: match test {
            Some((test, images)) => Some([images, needed(&format!("{test}-labels"), 1)?]),
            None => None,
        },
    })
}

/// Checks the header and the length of a file of images.
fn read_images(path: &Path) -> Result<RecordFile, Error> {
    let mut bytes = raster::open(path)?;
    let [count, height, width] = header(&mut bytes, path)?;
    let at = |byte| {
        move |expected: &str, found: usize| Error::content(path, At::Byte(byte), expected, found.to_string())
    };
    if count == 0 {
        return Err(at(4)("a number of images above 0", count));
    }
    if height == 0 || width == 0 || height.max(width) > 1 << 14 {
        return Err(at(8)("rows and columns from 1 to 16384", height.min(width)));
    }
    let file = RecordFile {
        path: path.to_owned(),
        header: 16,
        prefix: 0,
        records: count,
        pixels: Pixels::Grey { width, height },
    };
    let mut record = vec![0; file.pixels.bytes()];
    let mut begin = file.header;
    for _ in 0..count {
        raster::fill(&mut bytes, path, &mut record, begin)?;
        begin += record.len();
    }
    raster::end(&mut bytes, path, begin)?;
    Ok(file)
}

fn read_labels(path: &Path) -> Result<(PathBuf, Vec<u8>), Error> {
    let mut bytes = raster::open(path)?;
    let [count] = header(&mut bytes, path)?;
    // Read in pieces: what the header claims is not taken on trust.
    let mut labels = Vec::new();
    let mut piece = [0; 4096];
    while labels.len() < count {
        let wanted = piece.len().min(count - labels.len());
        raster::fill(&mut bytes, path, &mut piece[..wanted], 8 + labels.len())?;
        labels.extend_from_slice(&piece[..wanted]);
    }
    raster::end(&mut bytes, path, 8 + count)?;
    Ok((path.to_owned(), labels))
}

/// The dimensions of an idx file of bytes with `N` of them.
fn header<const N: usize>(bytes: &mut dyn std::io::Read, path: &Path) -> Result<[usize; N], Error> {
    let mut magic = [0; 4];
    raster::fill(bytes, path, &mut magic, 0)?;
    let expected = [0, 0, BYTES, N as u8];
    if magic != expected {
        let hexadecimal = |magic: [u8; 4]| format!("0x{:08x}", u32::from_be_bytes(magic));
        let words = format!(
            "the magic number {} (idx, bytes, {N} dimensions)",
            hexadecimal(expected)
        );
        return Err(Error::content(path, At::Byte(0), words, hexadecimal(magic)));
    }
    let mut dimensions = [0; N];
    for (number, dimension) in dimensions.iter_mut().enumerate() {
        let mut size = [0; 4];
        raster::fill(bytes, path, &mut size, 4 + 4 * number)?;
        *dimension = u32::from_be_bytes(size) as usize;
    }
    Ok(dimensions)
}
