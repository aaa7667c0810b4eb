//! Weights in and out: safetensors, memory-mapped on the way in, complete or absent on the way out.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use nettailor_domain::ids::Digest;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, View};
use tch::{Kind, Tensor};

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, mapped or written.
    #[error("weights file {path}: {what}")]
    Io {
        /// The file.
        path: String,
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The file is not safetensors, or is cut short.
    #[error("weights file {path} is not a complete safetensors file; get it again, or import it anew")]
    Format {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: SafeTensorError,
    },
    /// The bytes are not those that were asked for.
    #[error("weights file {path} has digest {found}, expected {expected}; it was changed or cut short")]
    Digest {
        /// The file.
        path: String,
        /// What it hashes to.
        found: Digest,
        /// What it should hash to.
        expected: Digest,
    },
    /// A number format we do not compute with.
    #[error("weights file {path}: tensor {name} has type {found:?}, expected F32, F16, BF16 or F64")]
    Type {
        /// The file.
        path: String,
        /// The tensor.
        name: String,
        /// Its type.
        found: Dtype,
    },
    /// libtorch refused.
    #[error("weights could not be turned into tensors or back: {0}")]
    Torch(#[from] tch::TchError),
}

/// Named tensors, from one file or several laid over each other.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: HashMap<String, Tensor>,
    origin: String,
}

/// Maps a file into memory.
fn map(path: &Path) -> Result<memmap2::Mmap, Error> {
    let io = |what| {
        move |source| Error::Io {
            path: path.display().to_string(),
            what,
            source,
        }
    };
    let file = File::open(path).map_err(io("cannot be opened"))?;
    // SAFETY: blobs are immutable once they are in the cache; a file that shrinks under us would end this process alone.
    unsafe { memmap2::Mmap::map(&file) }.map_err(io("cannot be mapped"))
}

/// Digest of a file's bytes.
pub fn digest(path: &Path) -> Result<Digest, Error> {
    Ok(blake3::hash(&map(path)?).into())
}

/// Fails unless the file's bytes are those named `expected`.
pub fn verify(path: &Path, expected: Digest) -> Result<(), Error> {
    let found = digest(path)?;
    if found == expected {
        Ok(())
    } else {
        Err(Error::Digest {
            path: path.display().to_string(),
            found,
            expected,
        })
    }
}

impl Weights {
    /// Reads every floating-point tensor of the file, in single precision. Integers (batch counters) are left out.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self::read_with_notes(path)?.0)
    }

    /// The same, and what [`write`] was told to note beside the tensors.
    pub fn read_with_notes(path: &Path) -> Result<(Self, HashMap<String, String>), Error> {
        let name = || path.display().to_string();
        let bytes = map(path)?;
        let format = |source| Error::Format { path: name(), source };
        let file = SafeTensors::deserialize(&bytes).map_err(format)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        let mut tensors = HashMap::new();
        for (tensor, view) in file.tensors() {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F64 => Kind::Double,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                Dtype::I64 | Dtype::I32 => continue,
                found => {
                    return Err(Error::Type {
                        path: name(),
                        name: tensor,
                        found,
                    });
                }
            };
            let size: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
            let values = Tensor::f_from_data_size(view.data(), &size, kind)?.f_to_kind(Kind::Float)?;
            tensors.insert(tensor, values);
        }
        let weights = Self {
            tensors,
            origin: name(),
        };
        Ok((weights, header.metadata().clone().unwrap_or_default()))
    }

    /// Tensors made elsewhere; `origin` names them in errors.
    pub fn from_tensors(tensors: HashMap<String, Tensor>, origin: &str) -> Self {
        Self {
            tensors,
            origin: origin.to_owned(),
        }
    }

    /// Lays `upper` over these weights: where both have a tensor, `upper`'s counts.
    pub fn overlaid(mut self, upper: Weights) -> Self {
        self.tensors.extend(upper.tensors);
        if !self.origin.is_empty() {
            self.origin.push_str(" with ");
        }
        self.origin.push_str(&upper.origin);
        self
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All of them, by name.
    pub fn into_tensors(self) -> impl Iterator<Item = (String, Tensor)> {
        self.tensors.into_iter()
    }

    /// Where they come from, for errors.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// A tensor's values as little-endian bytes, in row-major order of its own shape.
pub fn bytes(tensor: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let flat = tensor
        .f_detach()?
        .f_to_device(tch::Device::Cpu)?
        .f_contiguous()?
        .f_view([-1])?;
    let mut bytes = vec![0; flat.numel() * flat.kind().elt_size_in_bytes()];
    flat.f_copy_data_u8(&mut bytes, flat.numel())?;
    Ok(bytes)
}

/// A tensor to be written, of which a copy in row-major order is made when its turn comes.
struct Stored<'t> {
    tensor: &'t Tensor,
    shape: Vec<usize>,
    /// Why one could not be copied: the file is then of no use.
    failed: &'t Cell<Option<tch::TchError>>,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self
            .tensor
            .f_to_kind(Kind::Float)
            .and_then(|tensor| bytes(&tensor));
        Cow::Owned(bytes.unwrap_or_else(|error| {
            self.failed.set(Some(error));
            vec![0; self.data_len()]
        }))
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// Writes single-precision tensors to `path`. The file appears complete or not at all: it is written under another name,
/// flushed and renamed.
pub fn write<'a>(path: &Path, tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<(), Error> {
    write_with_notes(path, tensors, None)
}

/// The same with notes beside the tensors, each under a name of its own.
pub fn write_with_notes<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
    notes: Option<HashMap<String, String>>,
) -> Result<(), Error> {
    let failed = Cell::new(None);
    let store = |(name, tensor): (&'a str, &'a Tensor)| {
        let shape = tensor.size().into_iter().map(|n| n as usize).collect();
        let failed = &failed;
        (
            name,
            Stored {
                tensor,
                shape,
                failed,
            },
        )
    };
    let partial = path.with_extension("partial");
    let io = |what| {
        move |source| Error::Io {
            path: path.display().to_string(),
            what,
            source,
        }
    };
    let written = safetensors::serialize_to_file(tensors.map(store), notes, &partial);
    written.map_err(|error| match error {
        SafeTensorError::IoError(source) => io("cannot be written")(source),
        source => Error::Format {
            path: path.display().to_string(),
            source,
        },
    })?;
    if let Some(error) = failed.take() {
        return Err(error.into());
    }
    let file = File::open(&partial).map_err(io("cannot be opened"))?;
    file.sync_all().map_err(io("cannot be flushed"))?;
    std::fs::rename(&partial, path).map_err(io("cannot be put in place"))
}
