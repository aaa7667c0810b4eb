use std::path::Path;

use nettailor_domain::backbone::BackboneName;

use crate::inputs::weights::import;

/// The file that `make data` fetches. Values were read from it by another program.
#[test]
fn the_published_lite0_is_imported_exactly() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.data/backbones/efficientnet_lite0.pth");
    if !path.exists() {
        eprintln!(
            "left out: {} is not there; `make data` fetches it",
            path.display()
        );
        return;
    }
    let imported = import(&path, BackboneName::Lite0).unwrap();
    assert_eq!((imported.tensors, imported.elements), (245, 3_413_024));
    assert_eq!(
        imported.digest.to_string(),
        "dd345a34e8deb1b00850069e476551031735c1e66d116e7486492201fd6d51ac"
    );
    let file = safetensors::SafeTensors::deserialize(&imported.bytes).unwrap();
    for (name, index, expected) in [
        ("_conv_stem.weight", 0, -1.110_336_1_f32),
        ("_conv_stem.weight", 863, 2.235_174_2e-8),
        ("_blocks.1._expand_conv.weight", 100, 0.203_557_22),
        ("_bn1.running_var", 7, 10.647_316),
    ] {
        let tensor = file.tensor(name).unwrap();
        let bytes = tensor.data()[4 * index..4 * index + 4].try_into().unwrap();
        assert_eq!(f32::from_le_bytes(bytes), expected, "{name}[{index}]");
    }
}
