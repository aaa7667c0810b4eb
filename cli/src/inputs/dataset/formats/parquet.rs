//! Parquet files as data hubs keep them: `train-*.parquet`, `validation-*.parquet`, `test-*.parquet`, each row an encoded
//! image (column `image` with the fields `bytes` and `path`, or `image` itself) and a label. Names of classes stand in the
//! schema's metadata; without them, labels are their own names.

mod columns;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::column::reader::get_typed_column_reader;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use nettailor_domain::archive::Folder;
use nettailor_domain::task::DataFormat;

use super::super::error::At;
use super::super::{Error, Image, Listing, Source};
use columns::{Columns, LabelType};

/// Rows read at a time: images of some megabytes each stay far below a gigabyte in memory.
const ROWS: usize = 64;
/// Label of a row whose label is kept secret.
const SECRET: i64 = -1;

/// The Parquet files of `folder`, or of its folder `data`: each with the split that its name, or its folder's, tells.
pub(in super::super) fn files(folder: &Path) -> Vec<(Option<Folder>, PathBuf)> {
    for folder in [folder.to_owned(), folder.join("data")] {
        let mut files = shards(&folder);
        for split in subfolders(&folder) {
            if Folder::of_split(&name(&split)).is_some() {
                files.extend(shards(&split));
            }
        }
        if !files.is_empty() {
            files.sort_unstable();
            return files.into_iter().map(|file| (split_of(&file), file)).collect();
        }
    }
    vec![]
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| !name(path).starts_with('.'))
}

fn shards(folder: &Path) -> Vec<PathBuf> {
    let parquet = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
    entries(folder)
        .filter(|path| parquet(path) && path.is_file())
        .collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| path.is_dir()).collect()
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn split_of(file: &Path) -> Option<Folder> {
    let name_of_split = |name: &str| Folder::of_split(name.split(['-', '_', '.']).next().unwrap_or_default());
    name_of_split(&name(file)).or_else(|| Folder::of_split(&name(file.parent()?)))
}

/// Lists the rows of the files under `path`, or of the file `path`.
pub(super) fn list(path: &Path) -> Result<Listing, Error> {
    let mut files = if path.is_file() {
        vec![(split_of(path), path.to_owned())]
    } else {
        files(path)
    };
    if files.is_empty() {
        return Err(Error::Layout {
            path: path.to_owned(),
            format: DataFormat::Parquet,
            missing: "expected train-*.parquet (and validation-*, test-*) there or in data/".to_owned(),
        });
    }
    let mut listed = Listed::default();
    if files.iter().all(|(split, _)| split.is_none()) {
        files
            .iter_mut()
            .for_each(|(split, _)| *split = Some(Folder::Class));
    }
    for (split, file) in files {
        match split {
            Some(split) => listed.file(split, file)?,
            None => {
                listed.ignored += 1;
                let expected = "its name begins with none of train, val, validation and test";
                listed
                    .notes
                    .push(format!("{} is left out: {expected}", file.display()));
            }
        }
    }
    listed.finish()
}

/// A label as it stands in a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Number(i64),
    Text(String),
}

/// A file and where in it images are.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    /// Index of the column of encoded images.
    images: usize,
}

#[derive(Default)]
struct Listed {
    /// Names of classes, and the file that has them.
    names: Option<(Option<Vec<String>>, PathBuf)>,
    rows: Vec<(Folder, String, Label)>,
    shards: Vec<Shard>,
    /// Rows so far of each split.
    counts: BTreeMap<Folder, usize>,
    bytes: u64,
    ignored: u64,
    notes: Vec<String>,
}

impl Listed {
    /// Takes in a file of a split.
    fn file(&mut self, folder: Folder, path: PathBuf) -> Result<(), Error> {
        let reader = open(&path)?;
        let columns = Columns::find(&path, reader.metadata())?;
        let labels = labels(&path, &reader, &columns)?;
        let names = paths(&path, &reader, &columns, labels.len())?;
        let (known, first) = self
            .names
            .get_or_insert_with(|| (columns.names.clone(), path.clone()));
        if *known != columns.names {
            let expected = format!("the names of classes that {} has", first.display());
            return Err(Error::content(&path, At::Whole, expected, "others"));
        }
        if folder != Folder::Train
            && !labels.is_empty()
            && labels.iter().all(|label| *label == Label::Number(SECRET))
        {
            let split = folder.name().unwrap_or_default();
            let file = path.display();
            self.notes.push(format!(
                "{file} has no labels: a part of the training images becomes the {split} split"
            ));
            return Ok(());
        }
        let count = self.counts.entry(folder).or_default();
        for (row, (label, name)) in labels.into_iter().zip(names).enumerate() {
            if let (Label::Number(number), Some(names)) = (&label, &columns.names)
                && usize::try_from(*number).map_or(true, |number| number >= names.len())
            {
                let expected = format!("a label from 0 to {}", names.len().saturating_sub(1));
                return Err(Error::content(
                    &path,
                    At::Row(row as u64),
                    expected,
                    number.to_string(),
                ));
            }
            let name = name.map(|name| format!("-{name}")).unwrap_or_default();
            self.rows.push((folder, format!("{count:07}{name}"), label));
            *count += 1;
        }
        self.bytes += columns.bytes;
        let images = columns.images;
        self.shards.push(Shard { path, images });
        Ok(())
    }

    fn finish(self) -> Result<Listing, Error> {
        let names = self.names.and_then(|(names, _)| names);
        // Without names, the labels that occur are the classes.
        let occurring: Vec<&Label> = match names {
            Some(_) => vec![],
            None => self
                .rows
                .iter()
                .map(|(_, _, label)| label)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        };
        let label_of = |label: &Label| match (&names, label) {
            (Some(_), Label::Number(number)) => usize::try_from(*number).unwrap_or_default(),
            (_, label) => occurring.partition_point(|other| *other < label),
        };
        let images = self.rows.iter().map(|(folder, file, label)| Image {
            folder: *folder,
            label: label_of(label),
            file: file.clone(),
        });
        let images = images.collect();
        let text = |label: &&Label| match label {
            Label::Number(number) => number.to_string(),
            Label::Text(text) => text.clone(),
        };
        Ok(Listing {
            classes: names
                .clone()
                .unwrap_or_else(|| occurring.iter().map(text).collect()),
            images,
            source: Arc::new(Shards(self.shards)),
            bytes: self.bytes,
            ignored: self.ignored,
            notes: self.notes,
        })
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, Error> {
    let file = File::open(path).map_err(Error::read(path))?;
    SerializedFileReader::new(file).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &ParquetError) -> Error {
    Error::content(
        path,
        At::Whole,
        "a Parquet file; fetch it again if it is cut short",
        error.to_string(),
    )
}

/// The labels of all rows.
fn labels(path: &Path, reader: &SerializedFileReader<File>, columns: &Columns) -> Result<Vec<Label>, Error> {
    let mut labels = Vec::new();
    let mut add = |label: Option<Label>| {
        let row = At::Row(labels.len() as u64);
        let expected = format!("a label in the column `{}`", columns.label_name);
        labels.push(label.ok_or_else(|| Error::content(path, row, expected, "nothing"))?);
        Ok::<(), Error>(())
    };
    let column = columns.label;
    match columns.label_type {
        LabelType::Int32 => values::<Int32Type>(path, reader, column, |value| {
            add(value.map(|number| Label::Number(number.into())))
        }),
        LabelType::Int64 => values::<Int64Type>(path, reader, column, |value| add(value.map(Label::Number))),
        LabelType::Text => values::<ByteArrayType>(path, reader, column, |value| {
            add(value.map(|text| Label::Text(String::from_utf8_lossy(text.data()).into_owned())))
        }),
    }?;
    Ok(labels)
}

/// The last part of every row's path, where there is one.
fn paths(
    path: &Path,
    reader: &SerializedFileReader<File>,
    columns: &Columns,
    rows: usize,
) -> Result<Vec<Option<String>>, Error> {
    let Some(column) = columns.paths else {
        return Ok(vec![None; rows]);
    };
    let mut paths = Vec::new();
    values::<ByteArrayType>(path, reader, column, |value| {
        let text = value.map(|text| String::from_utf8_lossy(text.data()).into_owned());
        paths.push(
            text.and_then(|text| text.rsplit('/').next().map(str::to_owned))
                .filter(|name| !name.is_empty()),
        );
        Ok(())
    })?;
    Ok(paths)
}

/// Hands the value of every row in a column, or nothing where it is null, to `take`.
fn values<T: DataType>(
    path: &Path,
    reader: &SerializedFileReader<File>,
    column: usize,
    mut take: impl FnMut(Option<T::T>) -> Result<(), Error>,
) -> Result<(), Error> {
    let damaged = |error| damaged(path, &error);
    let defined = reader
        .metadata()
        .file_metadata()
        .schema_descr()
        .column(column)
        .max_def_level();
    for group in 0..reader.num_row_groups() {
        let rows = reader.get_row_group(group).map_err(damaged)?;
        let mut rows = get_typed_column_reader::<T>(rows.get_column_reader(column).map_err(damaged)?);
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        loop {
            levels.clear();
            let (records, _, _) = rows
                .read_records(ROWS, Some(&mut levels), None, &mut values)
                .map_err(damaged)?;
            if records == 0 {
                break;
            }
            let mut values = values.drain(..);
            for record in 0..records {
                let null = defined > 0 && levels.get(record) != Some(&defined);
                take(if null { None } else { values.next() })?;
            }
        }
    }
    Ok(())
}

/// The images in the rows of some files.
#[derive(Debug)]
struct Shards(Vec<Shard>);

impl Source for Shards {
    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
        for Shard { path, images } in &self.0 {
            let mut row = 0;
            values::<ByteArrayType>(path, &open(path)?, *images, |value: Option<ByteArray>| {
                let at = At::Row(row);
                row += 1;
                match value {
                    Some(bytes) => take(bytes.data().to_vec()),
                    None => Err(columns::no_bytes(path, at)),
                }
            })?;
        }
        Ok(())
    }
}
