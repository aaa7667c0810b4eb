//! Which GPU a trainer computes on: of the node's, one that the fewest others use. What CUDA is told decides, so a trainer
//! sees its own GPU and no other.

use std::sync::{Mutex, PoisonError};

/// The variable by which CUDA is told.
pub(crate) const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// The node's GPUs, with how many trainers compute on each.
#[derive(Debug, Default)]
pub(crate) struct Gpus(Mutex<Vec<(String, usize)>>);

impl Gpus {
    /// By the names that CUDA knows them by: numbers, or UUIDs.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self(Mutex::new(names.into_iter().map(|name| (name, 0)).collect()))
    }

    /// One for a trainer; none on a node that has none.
    pub(crate) fn take(&self) -> Option<Gpu<'_>> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, (name, count)) = users
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, (_, count))| *count)?;
        *count += 1;
        Some(Gpu {
            name: name.clone(),
            index,
            of: self,
        })
    }
}

/// A trainer's GPU, until it is dropped.
#[derive(Debug)]
pub(crate) struct Gpu<'a> {
    /// As CUDA knows it.
    pub(crate) name: String,
    index: usize,
    of: &'a Gpus,
}

impl Drop for Gpu<'_> {
    fn drop(&mut self) {
        let mut users = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        users[self.index].1 -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trainers_share_gpus_evenly() {
        let gpus = Gpus::new(vec!["0".to_owned(), "1".to_owned()]);
        let name = |gpu: &Option<Gpu<'_>>| gpu.as_ref().map(|gpu| gpu.name.clone()).unwrap_or_default();
        let (first, second, third) = (gpus.take(), gpus.take(), gpus.take());
        assert_eq!([&first, &second, &third].map(name), ["0", "1", "0"]);
        drop(first);
        drop(third);
        assert_eq!(name(&gpus.take()), "0", "nobody uses it any more");
    }

    #[test]
    fn a_node_without_gpus_gives_none() {
        assert!(Gpus::default().take().is_none());
    }
}
