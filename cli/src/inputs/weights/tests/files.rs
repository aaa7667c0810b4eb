use std::path::Path;

use super::*;
use crate::inputs::weights::{ARCH_KEY, Error, Imported, import, torch_file};
use zip::CompressionMethod::Stored;

const ARCH: BackboneName = BackboneName::Wrn26;

fn import_as(file: &[u8], arch: BackboneName) -> Result<Imported, Error> {
    let folder = tempfile::tempdir().unwrap();
    // The ending says nothing; the first bytes do.
    let path = folder.path().join("weights.bin");
    std::fs::write(&path, file).unwrap();
    import(&path, arch)
}

/// The error with its causes, as people see it.
fn words(result: Result<Imported, Error>) -> String {
    let error = result.expect_err("the file must be refused");
    let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn all_containers_and_layouts_give_the_same_bytes() {
    let plain = made(ARCH, Kind::F32);
    let expected = import_as(&safetensors_of(&plain), ARCH).unwrap();
    assert_eq!(expected.tensors, ARCH.describe().tensors().len());

    let mut swapped = plain.clone();
    for tensor in swapped.iter_mut().filter(|tensor| tensor.shape.len() == 4) {
        tensor.swapped = true;
    }
    let mut wrapped = plain.clone();
    wrapped
        .iter_mut()
        .for_each(|tensor| tensor.name.insert_str(0, "module."));
    for tensors in [
        &plain,
        &swapped,
        &wrapped,
        &made(ARCH, Kind::F16),
        &made(ARCH, Kind::Bf16),
    ] {
        for file in [legacy(tensors), zipped(tensors, Stored)] {
            let imported = import_as(&file, ARCH).unwrap();
            assert!(imported.bytes == expected.bytes);
            assert_eq!(imported.digest, expected.digest);
        }
    }
    // What comes out goes in again.
    assert!(import_as(&expected.bytes, ARCH).unwrap().bytes == expected.bytes);
}

#[test]
fn the_result_holds_the_backbone_and_nothing_else() {
    let made = made(ARCH, Kind::F32);
    let imported = import_as(&zipped(&made, Stored), ARCH).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&imported.bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()[ARCH_KEY], "wrn26");
    let file = safetensors::SafeTensors::deserialize(&imported.bytes).unwrap();
    let specs = ARCH.describe().tensors();
    assert_eq!(file.len(), specs.len());
    for spec in specs {
        let tensor = file.tensor(&spec.name).unwrap();
        assert_eq!(tensor.shape(), spec.shape);
        let source = made.iter().find(|made| made.name == spec.name).unwrap();
        let expected: Vec<u8> = source
            .values()
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert!(tensor.data() == expected, "{}", spec.name);
    }
}

#[test]
fn another_architecture_is_recognised() {
    let told = words(import_as(
        &safetensors_of(&made(BackboneName::Resnet18, Kind::F16)),
        BackboneName::Lite0,
    ));
    assert!(
        told.contains("not the weights of lite0: `_conv_stem.weight` [32, 3, 3, 3] is missing"),
        "{told}"
    );
    assert!(told.contains("looks like resnet18"), "{told}");
    // Every tensor of resnet18 is in resnet34, in its shape; still it is another network.
    let told = words(import_as(
        &safetensors_of(&made(BackboneName::Resnet34, Kind::F16)),
        BackboneName::Resnet18,
    ));
    assert!(
        told.contains("is no tensor of it") && told.contains("looks like resnet34"),
        "{told}"
    );
}

#[test]
fn other_shapes_and_missing_tensors_are_named() {
    let mut tensors = made(ARCH, Kind::F32);
    tensors[0].shape = vec![32, 1, 3, 3];
    let gone = tensors.remove(7).name;
    let told = words(import_as(&legacy(&tensors), ARCH));
    assert!(
        told.contains("`conv1.weight` is [32, 1, 3, 3], expected [32, 3, 3, 3]"),
        "{told}"
    );
    assert!(
        told.contains(&format!("`{gone}`")) && !told.contains("looks like"),
        "{told}"
    );
}

#[test]
fn weights_must_be_finite_floats() {
    let mut tensors = made(ARCH, Kind::F32);
    tensors[1].kind = Kind::I64;
    assert!(
        words(import_as(&zipped(&tensors, Stored), ARCH))
            .contains("tensor `bn1.weight` has elements of type")
    );
    tensors[1].kind = Kind::F32;
    let mut file = safetensors_of(&tensors);
    let last = file.len() - 4;
    // The last tensor of the file is one of the backbone's: f32 tensors are sorted by name, step counts go first.
    file[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(words(import_as(&file, ARCH)).contains("holds NaN"));
}

#[test]
fn files_cut_short_are_refused_wherever_they_end() {
    let tensors = made(ARCH, Kind::Bf16);
    for file in [
        legacy(&tensors),
        zipped(&tensors, Stored),
        safetensors_of(&tensors),
    ] {
        let ends = (0..32)
            .chain((1..8).map(|step| file.len() * step / 8))
            .chain(file.len() - 4..file.len());
        for end in ends {
            assert!(import_as(&file[..end], ARCH).is_err(), "{end} of {}", file.len());
        }
    }
}

#[test]
fn damaged_archive_members_are_noticed() {
    let tensors = made(ARCH, Kind::F32);
    let mut file = zipped(&tensors, Stored);
    let storage = tensors[20].bytes();
    let at = file
        .windows(storage.len())
        .position(|window| window == storage)
        .unwrap();
    file[at + 1] ^= 1;
    assert!(words(import_as(&file, ARCH)).contains("damaged"));
}

#[test]
fn what_is_no_weights_file_is_said_to_be_none() {
    assert!(words(import_as(b"GIF89a....", ARCH)).contains("not a weights file"));
    assert!(words(import_as(b"", ARCH)).contains("not a weights file"));
    assert!(words(import_as(b"PK\x03\x04 and no more", ARCH)).contains("cannot read the zip archive"));
    assert!(words(import(Path::new("/no/such/file"), ARCH)).starts_with("cannot read /no/such/file"));
}

#[test]
fn a_huge_view_of_a_small_storage_is_refused_before_it_is_built() {
    let mut tensors = made(ARCH, Kind::F32);
    tensors[0].shape = vec![1 << 20, 1 << 20, 1 << 20];
    let mut pickle = state_dict(&tensors[1..], false);
    pickle.truncate(pickle.len() - 2);
    text(&mut pickle, "conv1.weight");
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(&mut pickle, "storage");
    pickle.extend(b"ctorch\nFloatStorage\n");
    text(&mut pickle, "0");
    text(&mut pickle, "cpu");
    int(&mut pickle, tensors[1].len());
    pickle.extend(b"tQ");
    int(&mut pickle, 0);
    ints(&mut pickle, &tensors[0].shape);
    ints(&mut pickle, &[0, 0, 0]);
    pickle.extend(b"tRu.");
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(Stored);
    let storages = tensors[1..]
        .iter()
        .enumerate()
        .map(|(key, tensor)| (format!("a/data/{key}"), tensor.bytes()));
    for (name, content) in storages.chain([("a/data.pkl".to_owned(), pickle)]) {
        archive.start_file(name, options).unwrap();
        archive.write_all(&content).unwrap();
    }
    let told = words(import_as(&archive.finish().unwrap().into_inner(), ARCH));
    assert!(
        told.contains("`conv1.weight` is [1048576, 1048576, 1048576]"),
        "{told}"
    );
}

#[test]
fn views_outside_of_their_storage_are_refused() {
    let mut tensors = made(ARCH, Kind::F32);
    let whole = state_dict(&tensors, true);
    tensors[3].shape[0] += 1;
    let reaching = state_dict(&tensors, true);
    tensors[3].shape[0] -= 1;
    let file = legacy(&tensors);
    let at = file
        .windows(whole.len())
        .position(|window| window == whole)
        .unwrap();
    let longer = [&file[..at], &reaching, &file[at + whole.len()..]].concat();
    let error = torch_file::read_legacy(&longer).unwrap_err();
    assert!(
        matches!(error, torch_file::Error::OutOfBounds { ref tensor } if *tensor == tensors[3].name),
        "{error}"
    );
}
