//! The files, and how tensors are compared with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
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

/// A list of whole numbers: a shape, say.
pub(crate) fn integers(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_i64().unwrap())
        .collect()
}

/// How far two tensors may be apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tolerance {
    /// Largest difference, as a share of the largest element: the measure of the golden README.
    Largest(f64),
    /// Norm of the difference, as a share of the norm: for gradients of which a few elements may go another way.
    Norm(f64),
}

/// Distance of two tensors in both measures. References that are zero are compared absolutely.
#[derive(Debug, Clone, Copy)]
struct Distance {
    largest: f64,
    norm: f64,
}

impl Distance {
    /// Between whole tensors.
    fn of(ours: &[f64], theirs: &[f64]) -> Self {
        assert_eq!(ours.len(), theirs.len());
        let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
        Self {
            largest: share(largest(&differences), largest(theirs)),
            norm: share(root_mean_square(&differences), root_mean_square(theirs)),
        }
    }

    /// From an entry of a case file: all values, or means and samples.
    fn to_entry(ours: &[f64], entry: &Value) -> Self {
        if let Some(values) = entry.get("values") {
            return Self::of(ours, &numbers(values));
        }
        let rms = entry["rms"].as_f64().unwrap();
        let mean = |f: fn(f64) -> f64| ours.iter().map(|v| f(*v)).sum::<f64>() / ours.len() as f64;
        let moments = [
            ("mean", mean(|v| v)),
            ("absmean", mean(f64::abs)),
            ("rms", root_mean_square(ours)),
        ];
        let moments = moments.map(|(name, value)| value - entry[name].as_f64().unwrap());
        let moments = share(largest(&moments), rms);
        let places = numbers(&entry["at"]).into_iter().map(|at| ours[at as usize]);
        let samples: Vec<f64> = places
            .zip(numbers(&entry["samples"]))
            .map(|(a, b)| a - b)
            .collect();
        // The tensor's largest element is not in the file; it is at least 1 rms, and ours stands for it.
        Self {
            largest: share(largest(&samples), largest(ours).max(rms)).max(moments),
            norm: share(root_mean_square(&samples), rms).max(moments),
        }
    }

    /// The distance that `tolerance` speaks of, and what it may be.
    fn by(self, tolerance: Tolerance) -> (f64, f64) {
        match tolerance {
            Tolerance::Largest(allowed) => (self.largest, allowed),
            Tolerance::Norm(allowed) => (self.norm, allowed),
        }
    }
}

/// NaN stays NaN, so that it is never within a tolerance.
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most: f64, v| {
        if v.is_nan() {
            f64::NAN
        } else if v.abs() > most {
            v.abs()
        } else {
            most
        }
    })
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 1e-12 { part / whole } else { part }
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// Fails unless `ours` is the whole tensor `theirs`, to `tolerance` of its largest element.
pub(crate) fn assert_near(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    let off = Distance::of(&flat(ours), &flat(theirs)).largest;
    assert!(
        off <= tolerance,
        "{what}: off by {off:.3e} of its largest element, allowed {tolerance:.0e}"
    );
}

/// The entries of a case file, ticked off as they are compared.
pub(crate) struct Ledger<'a> {
    name: String,
    entries: &'a Map<String, Value>,
    compared: BTreeSet<String>,
    problems: Vec<String>,
    worst: (f64, String),
}

impl<'a> Ledger<'a> {
    /// Nothing compared yet; `name` leads every message.
    pub(crate) fn new(name: String, entries: &'a Map<String, Value>) -> Self {
        Self {
            name,
            entries,
            compared: BTreeSet::new(),
            problems: Vec::new(),
            worst: (0.0, String::new()),
        }
    }

    /// An entry, ticked off.
    pub(crate) fn entry(&mut self, name: &str) -> &'a Value {
        let entry = self.entries.get(name);
        let entry = entry.unwrap_or_else(|| panic!("{}: the case has no {name}", self.name));
        assert!(
            self.compared.insert(name.to_owned()),
            "{}: {name} twice",
            self.name
        );
        entry
    }

    /// Compares a tensor with the entry `name`.
    pub(crate) fn tensor(&mut self, name: &str, ours: &Tensor, tolerance: Tolerance) {
        let entry = self.entry(name);
        if self.same_shape(name, ours, entry) {
            let (off, allowed) = Distance::to_entry(&flat(ours), entry).by(tolerance);
            self.judge(name, off, allowed);
        }
    }

    /// Compares tensors whose values are all in the file, as one vector.
    pub(crate) fn together(&mut self, name: &str, parts: &[(String, Tensor)], tolerance: Tolerance) {
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for (part, ours) in parts {
            let entry = self.entry(part);
            if self.same_shape(part, ours, entry) {
                all.extend(flat(ours));
                expected.extend(numbers(&entry["values"]));
            }
        }
        let (off, allowed) = Distance::of(&all, &expected).by(tolerance);
        self.judge(name, off, allowed);
    }

    fn same_shape(&mut self, name: &str, ours: &Tensor, entry: &Value) -> bool {
        let (found, expected) = (ours.size(), integers(&entry["shape"]));
        if found != expected {
            self.problems
                .push(format!("{name}: shape {found:?}, expected {expected:?}"));
        }
        found == expected
    }

    fn judge(&mut self, name: &str, off: f64, allowed: f64) {
        if off > self.worst.0 {
            self.worst = (off, name.to_owned());
        }
        if off.is_nan() || off > allowed {
            self.problems
                .push(format!("{name}: off by {off:.3e}, allowed {allowed:.0e}"));
        }
    }

    /// Compares a number that is no tensor of the case.
    pub(crate) fn number(&mut self, name: &str, ours: f64, theirs: f64, tolerance: f64) {
        let off = (ours - theirs).abs() / theirs.abs().max(1.0);
        if off.is_nan() || off > tolerance {
            self.problems
                .push(format!("{name}: {ours}, expected {theirs}, off by {off:.3e}"));
        }
    }

    /// Fails if anything was off, or if an entry under `prefixes` was not compared, or one outside them was.
    /// Else how much was compared, and what came out worst.
    pub(crate) fn finish(self, prefixes: &[&str]) -> String {
        let belongs = |key: &&String| prefixes.iter().any(|prefix| key.starts_with(prefix));
        let listed: BTreeSet<String> = self.entries.keys().filter(belongs).cloned().collect();
        for prefix in prefixes {
            let any = listed.iter().any(|key| key.starts_with(prefix));
            assert!(any, "{}: nothing under {prefix}", self.name);
        }
        let left: Vec<_> = listed.symmetric_difference(&self.compared).take(8).collect();
        assert!(left.is_empty(), "{}: not compared: {left:?}", self.name);
        assert!(
            self.problems.is_empty(),
            "{}: {} of {} off:\n{}",
            self.name,
            self.problems.len(),
            self.compared.len(),
            self.problems[..self.problems.len().min(12)].join("\n")
        );
        let (compared, (worst, name)) = (self.compared.len(), &self.worst);
        format!("{}: {compared} compared, worst {worst:.1e} ({name})", self.name)
    }
}
