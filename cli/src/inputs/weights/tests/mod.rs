//! Files of every kind, whole and damaged.
//!
//! `protocol2.pkl` and `protocol4.pkl` were written by CPython's own pickler from stand-ins for torch's classes.

mod files;
mod machine;
mod real;

use std::io::Write as _;

use nettailor_domain::backbone::BackboneName;

use super::torch_file::LEGACY_MAGIC;

/// Elements as they lie in a file.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    F32,
    F16,
    Bf16,
    I64,
}

impl Kind {
    fn storage(self) -> &'static str {
        match self {
            Kind::F32 => "FloatStorage",
            Kind::F16 => "HalfStorage",
            Kind::Bf16 => "BFloat16Storage",
            Kind::I64 => "LongStorage",
        }
    }

    fn bytes(self, value: f32) -> Vec<u8> {
        match self {
            Kind::F32 => value.to_le_bytes().to_vec(),
            Kind::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
            Kind::Bf16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
            Kind::I64 => (value as i64).to_le_bytes().to_vec(),
        }
    }
}

/// One tensor of a made-up file. Element i is `(i + seed) % 64 / 8`, which every float type holds exactly.
#[derive(Clone)]
struct Made {
    name: String,
    shape: Vec<usize>,
    kind: Kind,
    /// Whether the file holds the first two axes swapped, with strides that say so.
    swapped: bool,
    seed: usize,
}

impl Made {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements in row-major order.
    fn values(&self) -> Vec<f32> {
        (0..self.len())
            .map(|index| ((index + self.seed) % 64) as f32 / 8.0)
            .collect()
    }

    fn strides(&self) -> Vec<usize> {
        let mut strides: Vec<usize> = (0..self.shape.len())
            .map(|axis| self.shape[axis + 1..].iter().product())
            .collect();
        if self.swapped {
            let inner: usize = self.shape[2..].iter().product();
            (strides[0], strides[1]) = (inner, self.shape[0] * inner);
        }
        strides
    }

    /// The storage's bytes.
    fn bytes(&self) -> Vec<u8> {
        let values = self.values();
        let mut stored = values.clone();
        if self.swapped {
            let (rows, columns) = (self.shape[0], self.shape[1]);
            let inner = self.len() / (rows * columns);
            for (at, value) in values.iter().enumerate() {
                let (row, column, rest) = (at / inner / columns, at / inner % columns, at % inner);
                stored[(column * rows + row) * inner + rest] = *value;
            }
        }
        stored
            .into_iter()
            .flat_map(|value| self.kind.bytes(value))
            .collect()
    }
}

/// The tensors of a backbone with what else a publisher's file holds: step counts and a classifier.
fn made(arch: BackboneName, kind: Kind) -> Vec<Made> {
    let backbone = arch.describe();
    let mut specs: Vec<(String, Vec<usize>, Kind)> = backbone
        .tensors()
        .into_iter()
        .map(|spec| (spec.name, spec.shape, kind))
        .collect();
    specs.extend(
        backbone
            .units()
            .map(|unit| (format!("{}.num_batches_tracked", unit.bn), vec![], Kind::I64)),
    );
    specs.push((
        format!("{}.weight", backbone.classifier),
        vec![4, backbone.features() as usize],
        kind,
    ));
    specs.push((format!("{}.bias", backbone.classifier), vec![4], kind));
    let with_seed = |(seed, (name, shape, kind))| Made {
        name,
        shape,
        kind,
        swapped: false,
        seed,
    };
    specs.into_iter().enumerate().map(with_seed).collect()
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn int(pickle: &mut Vec<u8>, value: usize) {
    pickle.extend([0x8a, 8]);
    pickle.extend((value as u64).to_le_bytes());
}

fn ints(pickle: &mut Vec<u8>, values: &[usize]) {
    pickle.push(b'(');
    values.iter().for_each(|&value| int(pickle, value));
    pickle.push(b't');
}

/// The pickle of a state dict; `legacy` storage ids have a sixth item.
fn state_dict(tensors: &[Made], legacy: bool) -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (key, tensor) in tensors.iter().enumerate() {
        text(&mut pickle, &tensor.name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{}\n", tensor.kind.storage()).bytes());
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cuda:0");
        int(&mut pickle, tensor.len());
        pickle.extend(if legacy { b"NtQ".as_slice() } else { b"tQ" });
        int(&mut pickle, 0);
        ints(&mut pickle, &tensor.shape);
        ints(&mut pickle, &tensor.strides());
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    pickle
}

/// A file of torch.save before PyTorch 1.6. The storages stand in reverse order, as the list of keys says.
fn legacy(tensors: &[Made]) -> Vec<u8> {
    let mut file = LEGACY_MAGIC.to_vec();
    file.extend(b"\x80\x02M\xe9\x03.");
    file.extend(b"\x80\x02}");
    text(&mut file, "little_endian");
    file.extend(b"\x88s.");
    file.extend(state_dict(tensors, true));
    file.extend(b"\x80\x02](");
    (0..tensors.len())
        .rev()
        .for_each(|key| text(&mut file, &key.to_string()));
    file.extend(b"e.");
    for tensor in tensors.iter().rev() {
        file.extend((tensor.len() as u64).to_le_bytes());
        file.extend(tensor.bytes());
    }
    file
}

/// A zip file as torch.save writes it.
fn zipped(tensors: &[Made], compression: zip::CompressionMethod) -> Vec<u8> {
    let mut members = vec![
        ("data.pkl".to_owned(), state_dict(tensors, false)),
        ("byteorder".to_owned(), b"little".to_vec()),
    ];
    members.extend(
        tensors
            .iter()
            .enumerate()
            .map(|(key, tensor)| (format!("data/{key}"), tensor.bytes())),
    );
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(compression);
    for (name, content) in members {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(&content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn safetensors_of(tensors: &[Made]) -> Vec<u8> {
    let dtype = |kind| match kind {
        Kind::F32 => safetensors::Dtype::F32,
        Kind::F16 => safetensors::Dtype::F16,
        Kind::Bf16 => safetensors::Dtype::BF16,
        Kind::I64 => safetensors::Dtype::I64,
    };
    let bytes: Vec<Vec<u8>> = tensors.iter().map(Made::bytes).collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(dtype(tensor.kind), tensor.shape.clone(), bytes).unwrap();
        (tensor.name.as_str(), view)
    });
    safetensors::serialize(views, None).unwrap()
}
