//! The archive that a data set travels in: a tar whose entries say by their names which class and split an image is of.
//!
//! `train/<class>/<file>`, `val/<class>/<file>` and `test/<class>/<file>`, or `<class>/<file>` throughout. Class and
//! file are any text that is not empty; characters that a path cannot hold are written as `%` and two hexadecimal digits
//! for each byte.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where in the archive an image lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Folder {
    /// `train/<class>/`.
    Train,
    /// `val/<class>/`: held out, to choose networks by.
    Val,
    /// `test/<class>/`.
    Test,
    /// `<class>/`, in an archive without split folders.
    Class,
}

impl Folder {
    /// Name of the split folder, where there is one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Train => Some("train"),
            Self::Val => Some("val"),
            Self::Test => Some("test"),
            Self::Class => None,
        }
    }

    /// The split that people call `name`: also `training`, `valid`, `validation` and `testing`, in any case.
    pub fn of_split(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" => Some(Self::Val),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

/// The name of an archive's entry, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName {
    /// Where it lies.
    pub folder: Folder,
    /// Name of the class.
    pub class: String,
    /// Name of the image within class and split.
    pub file: String,
}

/// A name that is of none of the forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry `{0}` is out of place; expected `train/<class>/<file>`, `val/<class>/<file>`, `test/<class>/<file>` or \
     `<class>/<file>`"
)]
pub struct Misplaced(pub String);

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(split) = self.folder.name() {
            write!(f, "{split}/")?;
        }
        write!(f, "{}/{}", escape(&self.class), escape(&self.file))
    }
}

impl FromStr for EntryName {
    type Err = Misplaced;

    fn from_str(name: &str) -> Result<Self, Misplaced> {
        let misplaced = || Misplaced(name.to_owned());
        let (folder, class, file) = match *name.split('/').collect::<Vec<_>>() {
            ["train", class, file] => (Folder::Train, class, file),
            ["val", class, file] => (Folder::Val, class, file),
            ["test", class, file] => (Folder::Test, class, file),
            [class, file] => (Folder::Class, class, file),
            _ => return Err(misplaced()),
        };
        let part = |text: &str| {
            unescape(text)
                .filter(|text| !text.is_empty())
                .ok_or_else(misplaced)
        };
        Ok(Self {
            folder,
            class: part(class)?,
            file: part(file)?,
        })
    }
}

/// As one component of a path.
fn escape(text: &str) -> String {
    if text == "." || text == ".." {
        return text.replace('.', "%2E");
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        // What is escaped is ASCII, a byte each.
        if character == '/' || character == '%' || character.is_ascii_control() {
            escaped.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The reverse; a `%` without two digits stands for itself. Nothing where the bytes are not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        match (first, after) {
            (b'%', [high, low, tail @ ..]) if digit(high).is_some() && digit(low).is_some() => {
                let value = 16 * digit(high)? + digit(low)?;
                bytes.push(u8::try_from(value).ok()?);
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(folder: Folder, class: &str, file: &str) -> EntryName {
        EntryName {
            folder,
            class: class.to_owned(),
            file: file.to_owned(),
        }
    }

    #[test]
    fn names_are_written_and_read() {
        let cases = [
            (name(Folder::Train, "a", "1.png"), "train/a/1.png"),
            (name(Folder::Val, "a b", "é.png"), "val/a b/é.png"),
            (
                name(Folder::Test, "n/a", "x/100%.png"),
                "test/n%2Fa/x%2F100%25.png",
            ),
            (name(Folder::Class, "..", "a\nb"), "%2E%2E/a%0Ab"),
            (name(Folder::Class, "train", "1.png"), "train/1.png"),
        ];
        for (name, text) in cases {
            assert_eq!(name.to_string(), text);
            assert_eq!(text.parse(), Ok(name));
        }
    }

    #[test]
    fn what_has_no_place_is_refused() {
        for text in [
            "",
            "1.png",
            "/1.png",
            "a/",
            "dev/a/1.png",
            "train/a/b/1.png",
            "train/%ff/1.png",
        ] {
            assert_eq!(text.parse::<EntryName>(), Err(Misplaced(text.to_owned())));
        }
        assert_eq!("50%/1.png".parse(), Ok(name(Folder::Class, "50%", "1.png")));
    }
}
