//! What trainers noted of the images they trained on: `--sample-ledger`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// One step of one rank.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// Kind of the stage: `teacher`, `candidate(6)`.
    pub stage: String,
    /// `<stage key>#<number>`.
    pub attempt: String,
    /// Which rank.
    pub rank: u32,
    /// From 0.
    pub epoch: u32,
    /// Of the whole stage, from 0.
    pub step: u64,
    /// Names.
    pub images: Vec<String>,
}

impl Entry {
    fn number(&self) -> u32 {
        let number = self.attempt.rsplit_once('#').and_then(|(_, n)| n.parse().ok());
        number.unwrap_or_else(|| panic!("{} is no attempt", self.attempt))
    }
}

/// Everything noted so far, each file's lines in order.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    if !folder.exists() {
        return Ok(entries);
    }
    for file in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(file?.path())?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            entries.push(serde_json::from_str(line).with_context(|| line.to_owned())?);
        }
    }
    Ok(entries)
}

/// A stage's steps in order: each with its epoch and the ranks' images, in the order of the ranks.
pub type Steps = BTreeMap<u64, (u32, BTreeMap<u32, Vec<String>>)>;

/// By stage, what its result was made of: of each step, what the latest attempt noted that came so far.
pub fn counted(entries: &[Entry]) -> BTreeMap<String, Steps> {
    let mut latest: BTreeMap<(&str, u64), u32> = BTreeMap::new();
    for entry in entries {
        let number = latest.entry((&entry.stage, entry.step)).or_default();
        *number = entry.number().max(*number);
    }
    let mut stages: BTreeMap<String, Steps> = BTreeMap::new();
    for entry in entries {
        if latest[&(entry.stage.as_str(), entry.step)] == entry.number() {
            let steps = stages.entry(entry.stage.clone()).or_default();
            let (_, ranks) = steps.entry(entry.step).or_insert((entry.epoch, BTreeMap::new()));
            ranks.insert(entry.rank, entry.images.clone());
        }
    }
    stages
}

/// Fails unless all `ranks` took part in every step and no epoch used an image twice, or other numbers of them.
pub fn check(steps: &Steps, ranks: u32) -> anyhow::Result<()> {
    let mut epochs: BTreeMap<u32, Vec<&String>> = BTreeMap::new();
    for (number, (step, (epoch, parts))) in (0..).zip(steps) {
        ensure!(*step == number, "step {number} is missing");
        ensure!(
            parts.keys().copied().eq(0..ranks),
            "ranks {:?} took step {step}",
            parts.keys()
        );
        epochs.entry(*epoch).or_default().extend(parts.values().flatten());
    }
    let size = epochs.values().next().map_or(0, Vec::len);
    for (epoch, images) in &epochs {
        let different: BTreeSet<_> = images.iter().collect();
        ensure!(
            different.len() == images.len() && images.len() == size,
            "epoch {epoch} used {} images, {} different ones; the first used {size}",
            images.len(),
            different.len()
        );
    }
    Ok(())
}
