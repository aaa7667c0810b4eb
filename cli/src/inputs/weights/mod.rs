//! `backbone import`: from a publisher's weights file to the form in which backbones are kept.
//!
//! Read are safetensors and both containers of `torch.save`, told apart by their first bytes. What comes out is
//! safetensors under the publisher's names: exactly the backbone's tensors, in f32, without its classifier. Equal
//! weights give equal bytes, whatever file they came in.

mod check;
mod pickle;
mod torch_file;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use nettailor_domain::backbone::{BackboneName, TensorSpec};
use nettailor_domain::ids::Digest;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

pub(crate) use check::Mismatch;
use view::{Element, TensorView};

/// Batch norm's count of training steps: whole numbers that nothing here needs.
const STEP_COUNT: &str = "num_batches_tracked";
/// What data-parallel wrappers put before every name.
const MODULE_PREFIX: &str = "module.";
/// Under this key, the safetensors' metadata name the backbone.
pub(crate) const ARCH_KEY: &str = "arch";

/// Why weights could not be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The operating system refused to read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The weights file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither of the three kinds.
    #[error("{}: not a weights file; expected safetensors or a file of torch.save (.pth, .pt)", path.display())]
    UnknownFormat {
        /// The weights file.
        path: PathBuf,
    },
    /// A safetensors file that cannot be understood.
    #[error("{}: cannot read it as safetensors; get the file anew", path.display())]
    Safetensors {
        /// The weights file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SafeTensorError,
    },
    /// A torch.save file that cannot be understood.
    #[error("{}: cannot read it as a file of torch.save", path.display())]
    Torch {
        /// The weights file.
        path: PathBuf,
        /// Why.
        #[source]
        source: torch_file::Error,
    },
    /// The file holds another network.
    #[error("{}: not the expected backbone", path.display())]
    Mismatch {
        /// The weights file.
        path: PathBuf,
        /// How it differs.
        #[source]
        source: Mismatch,
    },
    /// A tensor that holds no weights.
    #[error("{}: tensor `{tensor}` {found}; expected finite numbers in f32, f16 or bf16", path.display())]
    Values {
        /// The weights file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What it holds.
        found: String,
    },
    /// The result cannot be put together.
    #[error("cannot write the imported weights")]
    Write(#[source] SafeTensorError),
}

/// A backbone's weights, ready to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Imported {
    /// The contents of the safetensors file.
    pub(crate) bytes: Vec<u8>,
    /// Their digest, by which tasks name the backbone.
    pub(crate) digest: Digest,
    /// Number of tensors.
    pub(crate) tensors: usize,
    /// Number of elements of all tensors together.
    pub(crate) elements: usize,
}

/// Reads the weights file at `path`, checks that it is `arch`, and converts it.
pub(crate) fn import(path: &Path, arch: BackboneName) -> Result<Imported, Error> {
    let path = path.to_owned();
    let file = std::fs::read(&path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let listed = list(&path, &file)?;
    let all_prefixed = !listed.is_empty() && listed.iter().all(|(name, _)| name.starts_with(MODULE_PREFIX));
    let prefix = if all_prefixed { MODULE_PREFIX.len() } else { 0 };
    let tensors: BTreeMap<&str, &TensorView> = listed
        .iter()
        .map(|(name, view)| (&name[prefix..], view))
        .filter(|(name, _)| name.rsplit('.').next() != Some(STEP_COUNT))
        .collect();
    check::check(arch, &tensors).map_err(|source| Error::Mismatch {
        path: path.clone(),
        source,
    })?;

    let mut values = Vec::new();
    for spec in arch.describe().tensors() {
        let refused = |found: String| Error::Values {
            path: path.clone(),
            tensor: spec.name.clone(),
            found,
        };
        let view = tensors[spec.name.as_str()];
        let elements = view
            .to_f32(&file)
            .ok_or_else(|| refused(format!("has elements of type {:?}", view.element())))?;
        if let Some(odd) = elements.iter().find(|value| !value.is_finite()) {
            return Err(refused(format!("holds {odd}")));
        }
        let bytes: Vec<u8> = elements.iter().flat_map(|value| value.to_le_bytes()).collect();
        values.push((spec, bytes));
    }
    write(arch, &values)
}

fn write(arch: BackboneName, values: &[(TensorSpec, Vec<u8>)]) -> Result<Imported, Error> {
    let views = values.iter().map(|(spec, bytes)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, spec.shape.clone(), bytes)?;
        Ok((spec.name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(Error::Write)?;
    // One key only: the order of several would not be fixed, and the digest with it.
    let metadata = HashMap::from([(ARCH_KEY.to_owned(), arch.to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(Error::Write)?;
    let elements = values
        .iter()
        .map(|(_, bytes)| bytes.len() / Element::F32.size())
        .sum();
    Ok(Imported {
        digest: Digest::of(&bytes),
        bytes,
        tensors: values.len(),
        elements,
    })
}

/// Names and views of all tensors of a file of any kind.
fn list(path: &Path, file: &[u8]) -> Result<Vec<(String, TensorView)>, Error> {
    let torch = |source| Error::Torch {
        path: path.to_owned(),
        source,
    };
    if file.starts_with(&torch_file::LEGACY_MAGIC) {
        torch_file::read_legacy(file).map_err(torch)
    } else if file.starts_with(&torch_file::ZIP_MAGIC) {
        torch_file::read_zip(file).map_err(torch)
    } else if file.get(8) == Some(&b'{') {
        list_safetensors(file).map_err(|source| Error::Safetensors {
            path: path.to_owned(),
            source,
        })
    } else {
        Err(Error::UnknownFormat {
            path: path.to_owned(),
        })
    }
}

fn list_safetensors(file: &[u8]) -> Result<Vec<(String, TensorView)>, SafeTensorError> {
    let (header, metadata) = SafeTensors::read_metadata(file)?;
    let data = size_of::<u64>() + header;
    let view = |(name, tensor): (String, &TensorInfo)| {
        let element = match tensor.dtype {
            Dtype::F64 => Element::F64,
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            other => Element::Other(other.bitsize() / 8),
        };
        let (begin, end) = tensor.data_offsets;
        let view = TensorView::contiguous(element, tensor.shape.clone(), &(data + begin..data + end));
        let size = (end - begin) / element.size().max(1);
        let unfit = || SafeTensorError::InvalidTensorView(tensor.dtype, tensor.shape.clone(), size);
        Ok((name, view.ok_or_else(unfit)?))
    };
    metadata.tensors().into_iter().map(view).collect()
}

#[cfg(test)]
mod tests;
