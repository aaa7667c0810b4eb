//! Every format: made here, listed, read.

mod bad;
mod folders;
mod formats;
mod looks;
mod remotely;

use std::fs;
use std::io;
use std::path::Path;

use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use nettailor_domain::ids::Digest;

use super::*;

/// A folder of these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    folder
}

fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The bytes of a data set's archive.
fn archived(data: &DataSet) -> (Vec<u8>, Digest) {
    let mut bytes = Vec::new();
    let digest = data.write(&mut bytes).unwrap();
    (bytes, digest)
}

fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (
                header.mtime().unwrap(),
                header.uid().unwrap(),
                header.mode().unwrap()
            ),
            (0, 0, 0o644)
        );
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

/// A grey image of 4 x 4 pixels, as a file.
fn pgm(grey: u8) -> Vec<u8> {
    [b"P5\n4 4\n255\n".as_slice(), &[grey; 16]].concat()
}

/// A row of a Parquet file: bytes and path of the image, label.
type Row<'a> = (Option<&'a [u8]>, Option<&'a str>, i64);

/// Writes a Parquet file as data hubs do.
fn parquet_file(path: &Path, rows: &[Row<'_>], names: Option<&[&str]>) {
    const SCHEMA: &str = "message schema {
        optional group image { optional binary bytes; optional binary path (STRING); }
        optional int64 label;
    }";
    let features = serde_json::json!({ "info": { "features": {
        "image": { "_type": "Image" },
        "label": { "names": names, "_type": "ClassLabel" },
    } } });
    let metadata = names.map(|_| vec![KeyValue::new("huggingface".to_owned(), features.to_string())]);
    let properties = WriterProperties::builder()
        .set_key_value_metadata(metadata)
        .build();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut writer =
        SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    // Two groups of rows, so that both are read.
    for rows in rows.chunks(rows.len().div_ceil(2).max(1)) {
        let mut group = writer.next_row_group().unwrap();
        let texts: [Vec<Option<&[u8]>>; 2] = [
            rows.iter().map(|(bytes, _, _)| *bytes).collect(),
            rows.iter().map(|(_, path, _)| path.map(str::as_bytes)).collect(),
        ];
        for texts in texts {
            let mut column = group.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> = texts.iter().flatten().map(|text| text.to_vec().into()).collect();
            let levels: Vec<i16> = texts
                .iter()
                .map(|text| if text.is_some() { 2 } else { 1 })
                .collect();
            column
                .typed::<ByteArrayType>()
                .write_batch(&values, Some(&levels), None)
                .unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        let labels: Vec<i64> = rows.iter().map(|(_, _, label)| *label).collect();
        column
            .typed::<Int64Type>()
            .write_batch(&labels, Some(&vec![1; rows.len()]), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// An idx file of bytes.
fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = dimensions.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, dimensions.len() as u8]
        .into_iter()
        .chain(sizes)
        .chain(values.iter().copied())
        .collect()
}

/// Annotations in COCO's style of (file, category) of the categories 3 = `cat` and 7 = `dog`.
fn coco(files: &[(&str, i64)]) -> Vec<u8> {
    let images: Vec<_> = (0..)
        .zip(files)
        .map(|(id, (file, _))| serde_json::json!({ "id": id, "file_name": file, "width": 4 }))
        .collect();
    let annotations: Vec<_> = (0..)
        .zip(files)
        .map(|(id, (_, category))| serde_json::json!({ "id": id, "image_id": id, "category_id": category }))
        .collect();
    let categories = serde_json::json!([{ "id": 7, "name": "dog" }, { "id": 3, "name": "cat" }]);
    serde_json::json!({ "images": images, "annotations": annotations, "categories": categories })
        .to_string()
        .into_bytes()
}
