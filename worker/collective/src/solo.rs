//! The gang of one.

use std::cell::RefCell;

use tch::Tensor;

use crate::{Collective, Error};

/// A gang with a single rank: a mean over it is the tensor itself.
#[derive(Debug, Default)]
pub struct Solo {
    aborted: RefCell<Option<String>>,
}

impl Solo {
    /// A gang of one.
    pub fn new() -> Self {
        Self::default()
    }

    fn in_step(&self) -> Result<(), Error> {
        match &*self.aborted.borrow() {
            Some(reason) => Err(Error::Aborted {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_reduce_mean(&self, _tensors: &[Tensor]) -> Result<(), Error> {
        self.in_step()
    }

    fn broadcast(&self, _tensors: &[Tensor], root: usize) -> Result<(), Error> {
        self.in_step()?;
        if root == 0 {
            Ok(())
        } else {
            Err(Error::NoSuchRank { root, world_size: 1 })
        }
    }

    fn barrier(&self) -> Result<(), Error> {
        self.in_step()
    }

    fn abort(&self, reason: &str) {
        self.aborted.borrow_mut().get_or_insert_with(|| reason.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::conformance::check(1, |_rank| Solo::new());
    }
}
