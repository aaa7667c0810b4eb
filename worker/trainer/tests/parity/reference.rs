//! The files, and how tensors are compared with them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Kind, Tensor};

/// A file of `tests/golden`.
pub(crate) fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(file)
}

pub(crate) fn json(file: &str) -> Value {
    let path = path(file);
    serde_json::from_slice(&std::fs::read(&path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

/// Largest |a - b| over largest |b|; all-zero references are compared absolutely.
fn distance(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    let off = ours
        .iter()
        .zip(theirs)
        .fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
    if scale > 1e-12 { off / scale } else { off }
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// Fails unless `ours` is the whole tensor `theirs`, to `tolerance` of its largest element.
pub(crate) fn assert_near(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    let off = distance(&flat(ours), &flat(theirs));
    assert!(
        off <= tolerance,
        "{what}: off by {off:.3e} of its largest element, allowed {tolerance:.0e}"
    );
}

/// The same against an entry of a case file: all values, or means and samples.
pub(crate) fn assert_matches(what: &str, ours: &Tensor, entry: &Value, tolerance: f64) {
    let shape: Vec<i64> = numbers(&entry["shape"]).iter().map(|n| *n as i64).collect();
    assert_eq!(ours.size(), shape, "{what}: shape");
    let ours = flat(ours);
    if let Some(values) = entry.get("values") {
        let off = distance(&ours, &numbers(values));
        assert!(
            off <= tolerance,
            "{what}: off by {off:.3e}, allowed {tolerance:.0e}"
        );
        return;
    }
    let count = ours.len() as f64;
    let mean = |f: fn(f64) -> f64| ours.iter().map(|v| f(*v)).sum::<f64>() / count;
    let rms = entry["rms"].as_f64().unwrap();
    for (name, value) in [
        ("mean", mean(|v| v)),
        ("absmean", mean(f64::abs)),
        ("rms", mean(|v| v * v).sqrt()),
    ] {
        let off = (value - entry[name].as_f64().unwrap()).abs() / rms.max(1e-12);
        assert!(
            off <= tolerance,
            "{what}: {name} {value} is off by {off:.3e} rms, expected {}",
            entry[name]
        );
    }
    // The tensor's largest element is not in the file; it is at least 1 rms, and ours stands for it.
    let scale = ours.iter().fold(rms, |most, v| most.max(v.abs()));
    for (at, sample) in numbers(&entry["at"]).into_iter().zip(numbers(&entry["samples"])) {
        let value = ours[at as usize];
        let off = (value - sample).abs() / scale.max(1e-12);
        assert!(
            off <= tolerance,
            "{what}[{at}]: {value}, expected {sample}, off by {off:.3e} of the largest"
        );
    }
}
