//! Chance as a function: what is drawn depends on the seed, the purpose, the epoch and the sample's name alone.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;

/// What a number is drawn for; equal numbers for two purposes would tie them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Purpose {
    TestSplit = 1,
    HeldOutSplit = 2,
    Order = 3,
    Augmentation = 4,
}

/// The identity of a sample: of its name, so that neither its place nor its neighbours matter.
pub(super) fn id(name: &str) -> u64 {
    first_eight(blake3::hash(name.as_bytes()))
}

/// An evenly distributed number.
pub(super) fn number(purpose: Purpose, seed: u64, epoch: u32, id: u64) -> u64 {
    first_eight(mix(purpose, seed, epoch, id))
}

/// A generator for one sample in one epoch.
pub(super) fn generator(purpose: Purpose, seed: u64, epoch: u32, id: u64) -> Pcg64Mcg {
    let mut state = [0; 16];
    state.copy_from_slice(&mix(purpose, seed, epoch, id).as_bytes()[..16]);
    Pcg64Mcg::from_seed(state)
}

fn mix(purpose: Purpose, seed: u64, epoch: u32, id: u64) -> blake3::Hash {
    let mut input = [0; 21];
    input[0] = purpose as u8;
    input[1..9].copy_from_slice(&seed.to_le_bytes());
    input[9..13].copy_from_slice(&epoch.to_le_bytes());
    input[13..].copy_from_slice(&id.to_le_bytes());
    blake3::hash(&input)
}

fn first_eight(hash: blake3::Hash) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}
