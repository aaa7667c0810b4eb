//! The two containers of `torch.save`: a zip archive (since PyTorch 1.6) and a row of pickles followed by raw storages.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Cursor};
use std::ops::Range;

use super::pickle::{self, Node, Pickle, Tensor, Value};
use super::view::TensorView;

/// The pickle of the magic number that old files begin with: protocol 2, a ten-byte integer, stop.
pub(super) const LEGACY_MAGIC: [u8; 15] = [
    0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];
/// What a zip archive begins with.
pub(super) const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// The version of the old container.
const LEGACY_PROTOCOL: i64 = 1001;
/// Keys under which training programs keep the weights beside other things.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Why a file of `torch.save` was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The description of the tensors cannot be read.
    #[error("cannot read the tensors' description")]
    Pickle(#[from] pickle::Error),
    /// The zip archive is damaged or of an unknown kind.
    #[error("cannot read the zip archive")]
    Zip(#[from] zip::result::ZipError),
    /// The bytes of an archive member do not have its check sum.
    #[error("archive member `{member}` is damaged; get the file anew")]
    Damaged {
        /// Name in the archive.
        member: String,
        /// What the archive reader found.
        #[source]
        source: io::Error,
    },
    /// A part that must be there is not.
    #[error("{what} is missing or cut short; get the file anew")]
    Missing {
        /// Which part.
        what: String,
    },
    /// Something that could be read but not understood.
    #[error("expected {expected}, found something else")]
    Unexpected {
        /// What.
        expected: &'static str,
    },
    /// A tensor that reaches over the end of its storage.
    #[error("tensor `{tensor}` reaches outside of its storage; get the file anew")]
    OutOfBounds {
        /// Name of the tensor.
        tensor: String,
    },
}

/// Names and views of the tensors in a row of pickles with raw storages behind.
pub(super) fn read_legacy(file: &[u8]) -> Result<Vec<(String, TensorView)>, Error> {
    let mut at = LEGACY_MAGIC.len();
    let mut next = || -> Result<Pickle<'_>, Error> {
        let (pickle, length) = pickle::read(&file[at..])?;
        at += length;
        Ok(pickle)
    };
    let (protocol, system, state, keys) = (next()?, next()?, next()?, next()?);
    if protocol.root() != Value::Int(LEGACY_PROTOCOL) {
        return Err(Error::Unexpected {
            expected: "version 1001 of torch.save's old format",
        });
    }
    let little_endian = |&(key, value): &(Value, Value)| {
        system.text(key) == Some("little_endian") && value == Value::Bool(true)
    };
    if !system
        .dict(system.root())
        .unwrap_or_default()
        .iter()
        .any(little_endian)
    {
        return Err(Error::Unexpected {
            expected: "little-endian weights",
        });
    }
    let Some(Node::List(keys_in_order)) = keys.node(keys.root()) else {
        return Err(Error::Unexpected {
            expected: "a list of storage keys",
        });
    };
    let tensors = tensors(&state)?;
    let sizes: HashMap<&str, usize> = tensors
        .iter()
        .map(|(_, tensor)| (tensor.storage.key, tensor.storage.element.size()))
        .collect();
    let mut storages = HashMap::new();
    for &key in keys_in_order {
        let key = keys.text(key).ok_or(Error::Unexpected {
            expected: "storage keys that are texts",
        })?;
        // A storage that only unused values refer to has an unknown element size, so its end cannot be found.
        let size = *sizes.get(key).ok_or(Error::Unexpected {
            expected: "storages of the state dict's tensors alone",
        })?;
        let missing = || Error::Missing {
            what: format!("storage `{key}`"),
        };
        let start = at + 8;
        let length = file
            .get(at..start)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes);
        let bytes = length
            .and_then(|length| usize::try_from(length).ok()?.checked_mul(size))
            .ok_or_else(missing)?;
        at = start
            .checked_add(bytes)
            .filter(|&end| end <= file.len())
            .ok_or_else(missing)?;
        storages.insert(key.to_owned(), start..at);
    }
    views(tensors, |key| {
        storages.get(key).cloned().ok_or_else(|| Error::Missing {
            what: format!("storage `{key}`"),
        })
    })
}

/// Names and views of the tensors in a zip archive: `<any>/data.pkl` and one member `<any>/data/<key>` per storage.
pub(super) fn read_zip(file: &[u8]) -> Result<Vec<(String, TensorView)>, Error> {
    let mut archive = zip::ZipArchive::new(Cursor::new(file))?;
    let description = archive
        .file_names()
        .flatten()
        .find(|name| name.ends_with("/data.pkl"))
        .map(Cow::into_owned);
    let description = description.ok_or_else(|| Error::Missing {
        what: "archive member `data.pkl`".to_owned(),
    })?;
    let root = description.trim_end_matches("data.pkl").to_owned();
    let byte_order = format!("{root}byteorder");
    if archive.index_for_name(&byte_order).is_some() {
        let range = member(&mut archive, file.len(), &byte_order)?;
        if &file[range] != b"little" {
            return Err(Error::Unexpected {
                expected: "little-endian weights",
            });
        }
    }
    let range = member(&mut archive, file.len(), &description)?;
    let (state, _) = pickle::read(&file[range])?;
    let mut storages: HashMap<String, Range<usize>> = HashMap::new();
    views(tensors(&state)?, |key| {
        if let Some(range) = storages.get(key) {
            return Ok(range.clone());
        }
        let range = member(&mut archive, file.len(), &format!("{root}data/{key}"))?;
        storages.insert(key.to_owned(), range.clone());
        Ok(range)
    })
}

/// Where in the file an uncompressed member lies, once its check sum has been found right.
fn member(
    archive: &mut zip::ZipArchive<Cursor<&[u8]>>,
    file: usize,
    name: &str,
) -> Result<Range<usize>, Error> {
    let missing = || Error::Missing {
        what: format!("archive member `{name}`"),
    };
    let mut found = match archive.by_name(name) {
        Err(zip::result::ZipError::FileNotFound) => return Err(missing()),
        other => other?,
    };
    if found.compression() != zip::CompressionMethod::Stored {
        return Err(Error::Unexpected {
            expected: "archive members without compression, as torch.save writes them",
        });
    }
    let start = found
        .data_start()
        .and_then(|start| usize::try_from(start).ok())
        .ok_or_else(missing)?;
    let length = usize::try_from(found.size()).map_err(|_| missing())?;
    let end = start
        .checked_add(length)
        .filter(|&end| end <= file)
        .ok_or_else(missing)?;
    io::copy(&mut found, &mut io::sink()).map_err(|source| Error::Damaged {
        member: name.to_owned(),
        source,
    })?;
    Ok(start..end)
}

/// The tensors of a state dict, whether it is the whole file or kept under one of [`WRAPPERS`].
fn tensors<'p, 'a>(pickle: &'p Pickle<'a>) -> Result<Vec<(String, &'p Tensor<'a>)>, Error> {
    let not_a_state_dict = || Error::Unexpected {
        expected: "a state dict (names to tensors)",
    };
    let listed = |value: Value| -> Vec<(String, &'p Tensor<'a>)> {
        let entry = |&(key, value): &(Value, Value)| match pickle.node(value) {
            Some(Node::Tensor(tensor)) => Some((pickle.text(key)?.to_owned(), tensor)),
            _ => None,
        };
        pickle
            .dict(value)
            .unwrap_or_default()
            .iter()
            .filter_map(entry)
            .collect()
    };
    let root = pickle.root();
    let entries = pickle.dict(root).ok_or_else(not_a_state_dict)?;
    let wrapped = |wrapper: &&str| {
        let inner = entries
            .iter()
            .find(|(key, _)| pickle.text(*key) == Some(wrapper))?;
        Some(listed(inner.1))
    };
    std::iter::once(listed(root))
        .chain(WRAPPERS.iter().filter_map(wrapped))
        .find(|tensors| !tensors.is_empty())
        .ok_or_else(not_a_state_dict)
}

fn views(
    tensors: Vec<(String, &Tensor<'_>)>,
    mut storage: impl FnMut(&str) -> Result<Range<usize>, Error>,
) -> Result<Vec<(String, TensorView)>, Error> {
    let view = |(name, tensor): (String, &Tensor<'_>)| {
        let place = storage(tensor.storage.key)?;
        let (shape, strides) = (tensor.shape.clone(), tensor.strides.clone());
        let view = TensorView::new(tensor.storage.element, shape, strides, tensor.offset, &place);
        let long_enough = tensor.storage.len.checked_mul(tensor.storage.element.size()) == Some(place.len());
        match view.filter(|_| long_enough) {
            Some(view) => Ok((name, view)),
            None => Err(Error::OutOfBounds { tensor: name }),
        }
    };
    tensors.into_iter().map(view).collect()
}
