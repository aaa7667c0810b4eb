//! A table of images: a CSV file with the columns `path`, `label` and perhaps `split`. Paths are relative to the file.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csv::{ReaderBuilder, StringRecord, Trim};
use nettailor_domain::archive::Folder;
use rayon::prelude::*;

use super::super::error::At;
use super::super::{Error, Files, Image, Listing};

/// Name under which a table is recognised in a folder.
pub(in super::super) const FILE: &str = "manifest.csv";
const COLUMNS: &str = "a header with the columns `path`, `label` and perhaps `split`, separated by commas";
const SPLITS: &str = "`train`, `val` or `test`";

/// A row of the table.
pub(in super::super) struct Row {
    line: u64,
    /// As written.
    pub(in super::super) path: String,
    label: String,
    folder: Folder,
}

/// Lists the images that the table at `path`, or in the folder `path`, names.
pub(super) fn list(path: &Path) -> Result<Listing, Error> {
    let inside = path.join(FILE);
    let path = if path.is_dir() { &inside } else { path };
    let rows = rows(path, &std::fs::read(path).map_err(Error::read(path))?)?;
    let mut named = Named::new(path);
    let classes: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    let mut images = Vec::new();
    for row in &rows {
        images.push(Image {
            folder: row.folder,
            label: classes.partition_point(|class| *class < row.label),
            file: named.add(path, At::Line(row.line), &row.path)?,
        });
    }
    let (files, bytes) = named.files(path.parent().unwrap_or(Path::new("")))?;
    Ok(Listing {
        classes,
        images,
        source: Arc::new(Files(files)),
        bytes,
        ignored: 0,
        notes: vec![],
    })
}

/// Reads a table. `path` is for messages.
pub(in super::super) fn rows(path: &Path, text: &[u8]) -> Result<Vec<Row>, Error> {
    // Byte-order marks are no content.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(text);
    let header = reader
        .headers()
        .map_err(|error| unreadable(path, &error))?
        .clone();
    let column = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let (Some(image), Some(label)) = (column("path"), column("label")) else {
        let found = header
            .iter()
            .map(|column| format!("`{column}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let found = if found.is_empty() {
            "an empty file".to_owned()
        } else {
            found
        };
        return Err(Error::content(path, At::Line(1), COLUMNS, found));
    };
    let split = column("split");
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(path, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = |column: usize, name: &str| {
            let text = record.get(column).unwrap_or_default();
            let expected = format!("a text in the column `{name}`");
            let missing = || Error::content(path, At::Line(line), expected, "nothing");
            Some(text).filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        rows.push(Row {
            line,
            path: text(image, "path")?.to_owned(),
            label: text(label, "label")?.to_owned(),
            folder: split.map_or(Ok(Folder::Class), |split| folder(path, line, &record, split))?,
        });
    }
    Ok(rows)
}

fn folder(path: &Path, line: u64, record: &StringRecord, column: usize) -> Result<Folder, Error> {
    let name = record.get(column).unwrap_or_default();
    Folder::of_split(name).ok_or_else(|| {
        let expected = format!("{SPLITS} in the column `split`");
        let found = if name.is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{name}`")
        };
        Error::content(path, At::Line(line), expected, found)
    })
}

fn unreadable(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map(csv::Position::line);
    let at = line.map_or(At::Whole, At::Line);
    let (expected, found) = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            let expected = format!("{expected_len} fields as in the header; quote those that hold a comma");
            (expected, len.to_string())
        }
        csv::ErrorKind::Utf8 { .. } => (
            "text in UTF-8; convert the file".to_owned(),
            "other bytes".to_owned(),
        ),
        _ => ("comma-separated values".to_owned(), error.to_string()),
    };
    Error::content(path, at, expected, found)
}

/// The name of a file below the folder that names are relative to, without empty and `.` parts. None where it is
/// absolute or has a part `..`: data that came from elsewhere must not reach other files of this machine.
pub(in super::super) fn normalised(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').filter(|part| !["", "."].contains(part)).collect();
    let inside = !name.starts_with('/') && !parts.is_empty() && !parts.contains(&"..");
    inside.then(|| parts.join("/"))
}

/// Image files that another file names, each once.
pub(super) struct Named {
    /// The file that names them.
    path: PathBuf,
    /// Normalised, in order, with the places where they are named.
    files: Vec<(String, At)>,
    places: HashMap<String, usize>,
}

impl Named {
    /// Nothing yet; `path` is the file that names images, for messages.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: vec![],
            places: HashMap::new(),
        }
    }

    /// Takes in a file that is named at a place of `path`; returns its name in the archive. Refuses names that lead out
    /// of the folder that they are relative to, and names that came before.
    pub(super) fn add(&mut self, path: &Path, at: At, file: &str) -> Result<String, Error> {
        let Some(name) = normalised(file) else {
            let expected =
                "a relative name without `..`; move the image below the folder that names start at";
            return Err(Error::content(path, at, expected, format!("`{file}`")));
        };
        if let Some(&before) = self.places.get(&name) {
            let expected = "an image that is not listed before";
            let found = format!("`{name}`{} again", self.files[before].1);
            return Err(Error::content(path, at, expected, found));
        }
        self.places.insert(name.clone(), self.files.len());
        self.files.push((name.clone(), at));
        Ok(name)
    }

    /// Where the files lie, relative to `base`, and their size together. All must be there.
    pub(super) fn files(self, base: &Path) -> Result<(Vec<PathBuf>, u64), Error> {
        let look = |(name, at): &(String, At)| {
            let path = base.join(name);
            let found = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
            found
                .map(|file| (path, file.len()))
                .ok_or_else(|| format!("`{name}`{at}"))
        };
        let looked: Vec<_> = self.files.par_iter().map(look).collect();
        let missing: Vec<String> = looked
            .iter()
            .filter_map(|found| found.as_ref().err().cloned())
            .collect();
        if !missing.is_empty() {
            return Err(Error::Missing {
                path: self.path,
                base: base.to_owned(),
                missing,
            });
        }
        let found: Vec<(PathBuf, u64)> = looked.into_iter().flatten().collect();
        let bytes = found.iter().map(|(_, bytes)| bytes).sum();
        Ok((found.into_iter().map(|(path, _)| path).collect(), bytes))
    }
}
