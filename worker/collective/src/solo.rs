//! The gang of one.

use std::cell::RefCell;

use tch::Tensor;

use crate::gate::Aborted;
use crate::{Collective, Error, Pending, Reduction};

/// A gang with a single rank: a mean or a sum over it is the tensor itself.
#[derive(Debug, Default)]
pub struct Solo {
    ended: RefCell<Option<Aborted>>,
}

impl Solo {
    /// A gang of one.
    pub fn new() -> Self {
        Self::default()
    }

    fn in_step(&self) -> Result<(), Error> {
        match &*self.ended.borrow() {
            Some(aborted) => Err(aborted.clone().into()),
            None => Ok(()),
        }
    }

    fn end(&self, reason: &str) {
        self.ended
            .borrow_mut()
            .get_or_insert_with(|| Aborted(reason.to_owned()));
    }
}

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> Result<Pending, Error> {
        self.in_step()?;
        reduction.check(&tensors)?;
        Ok(Pending::done())
    }

    fn broadcast(&self, _tensors: &[Tensor], root: usize) -> Result<(), Error> {
        self.in_step()?;
        Error::unless_rank(root, 1)
    }

    fn barrier(&self) -> Result<(), Error> {
        self.in_step()
    }

    fn abort(&self, reason: &str) {
        self.end(reason);
    }

    fn leave(&self) -> Result<(), Error> {
        self.in_step()?;
        self.end("this rank has left the gang");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::conformance::check(1, |_rank| Box::new(Solo::new()));
        crate::conformance::check_leave(1, |_rank| Box::new(Solo::new()));
    }
}
