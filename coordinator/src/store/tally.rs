//! What rows the database must hold.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A checksum of each row, and what is kept of them all: their number and sum.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By hashes of the rows' keys. Two that are alike, which among a million rows has a chance of 1 in 37 million, would be taken
    /// for damage at the next start.
    checksums: HashMap<u64, u32>,
    sum: u64,
}

impl Tally {
    /// A row was written or, where there is no value, removed.
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let name = hasher.finish();
        let new = value.map(|value| checksum(key, value));
        let old = match new {
            Some(new) => self.checksums.insert(name, new),
            None => self.checksums.remove(&name),
        };
        self.sum = self.sum.wrapping_add(new.map_or(0, u64::from));
        self.sum = self.sum.wrapping_sub(old.map_or(0, u64::from));
    }

    /// What is kept of it.
    pub(super) fn encode(&self) -> [u8; 16] {
        let rows = self.checksums.len() as u128;
        (rows << 64 | u128::from(self.sum)).to_be_bytes()
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}
