//! Weights files that hold a network and no knowledge.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use nettailor_domain::backbone::BackboneName;

/// Writes the weights of `arch`, all of them zero: safetensors in f16, which the CLI takes like any publisher's.
pub fn blank(path: &Path, arch: &str) -> anyhow::Result<()> {
    let name: BackboneName = arch.parse()?;
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for tensor in name.describe().tensors() {
        let begin = end;
        end += 2 * tensor.shape.iter().product::<usize>();
        let entry =
            serde_json::json!({ "dtype": "F16", "shape": tensor.shape, "data_offsets": [begin, end] });
        header.insert(tensor.name, entry);
    }
    let header = serde_json::to_vec(&header)?;
    let mut file = File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    // The rest of the file is a hole, which reads as zeros.
    Ok(file.set_len((8 + header.len() + end) as u64)?)
}
