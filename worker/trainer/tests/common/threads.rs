//! A gang whose ranks are threads of this process. What it reduces is not a number until it was waited for.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use nettailor_collective::{Collective, Error, Pending};
use tch::{Kind, Tensor};

/// What all ranks see.
struct Shared {
    world_size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By number of the operation.
    rounds: HashMap<u64, Round>,
    aborted: Option<String>,
}

/// One operation: what each rank brought, and how many have what they came for.
struct Round {
    brought: Vec<Option<Vec<Tensor>>>,
    served: usize,
}

/// One rank.
pub(crate) struct Threads {
    rank: usize,
    shared: Arc<Shared>,
    operations: Cell<u64>,
    /// What was asked of this rank, in order.
    log: RefCell<Vec<&'static str>>,
}

/// Runs `work` as every rank of a gang; what each returned, by rank.
pub(crate) fn run<T: Send>(world_size: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
    let ranks = gang(world_size);
    let work = &work;
    std::thread::scope(|scope| {
        let ranks = ranks.into_iter().map(|rank| {
            scope.spawn(move || {
                nettailor_trainer::runtime::flush_denormals();
                work(&rank)
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Every rank of a new gang.
pub(crate) fn gang(world_size: usize) -> Vec<Threads> {
    let shared = Arc::new(Shared {
        world_size,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let rank = |rank| Threads {
        rank,
        shared: shared.clone(),
        operations: Cell::new(0),
        log: RefCell::default(),
    };
    (0..world_size).map(rank).collect()
}

impl Shared {
    /// The state, unless the gang was aborted.
    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state.lock().unwrap();
        match &state.aborted {
            Some(reason) => Err(Error::Aborted {
                reason: reason.clone(),
            }),
            None => Ok(state),
        }
    }

    /// Waits until every rank has brought its tensors; `take` makes the result of them.
    fn collect<T>(&self, operation: u64, take: impl FnOnce(&[Vec<Tensor>]) -> T) -> Result<T, Error> {
        let mut state = self.state.lock().unwrap();
        loop {
            // What was complete before the gang was aborted counts.
            let round = state.rounds.get_mut(&operation).expect("it was begun");
            if round.brought.iter().all(Option::is_some) {
                let all: Vec<Vec<Tensor>> = round
                    .brought
                    .iter()
                    .map(|tensors| tensors.iter().flatten().map(Tensor::shallow_clone).collect())
                    .collect();
                let taken = take(&all);
                round.served += 1;
                if round.served == self.world_size {
                    state.rounds.remove(&operation);
                }
                return Ok(taken);
            }
            if let Some(reason) = &state.aborted {
                return Err(Error::Aborted {
                    reason: reason.clone(),
                });
            }
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl Threads {
    /// What was asked of this rank so far: `start`, `mean`, `broadcast` or `barrier`, in order.
    #[allow(dead_code, reason = "not every test that has a gang looks into it")]
    pub(crate) fn log(&self) -> Vec<&'static str> {
        self.log.borrow().clone()
    }

    /// Brings copies of `tensors` to the next operation; its number.
    fn bring(&self, what: &'static str, tensors: &[Tensor]) -> Result<u64, Error> {
        self.log.borrow_mut().push(what);
        let operation = self.operations.get();
        self.operations.set(operation + 1);
        let mut state = self.shared.state()?;
        let round = state.rounds.entry(operation).or_insert_with(|| Round {
            brought: (0..self.shared.world_size).map(|_| None).collect(),
            served: 0,
        });
        round.brought[self.rank] = Some(tensors.iter().map(Tensor::copy).collect());
        drop(state);
        self.shared.changed.notify_all();
        Ok(operation)
    }
}

/// Waits for an all-reduce and puts the mean in place.
fn finish(shared: &Shared, operation: u64, tensors: &[Tensor]) -> Result<(), Error> {
    shared.collect(operation, |ranks| {
        for (index, tensor) in tensors.iter().enumerate() {
            let kind = match tensor.kind() {
                Kind::Double => Kind::Double,
                _ => Kind::Float,
            };
            let mut sum = ranks[0][index].to_kind(kind).copy();
            for rank in &ranks[1..] {
                sum += rank[index].to_kind(kind);
            }
            tensor.shallow_clone().copy_(&(sum / ranks.len() as f64));
        }
    })
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.shared.world_size
    }

    fn all_reduce_mean(&self, tensors: &[Tensor]) -> Result<(), Error> {
        let operation = self.bring("mean", tensors)?;
        finish(&self.shared, operation, tensors)
    }

    fn start_all_reduce_mean(&self, tensors: Vec<Tensor>) -> Result<Pending, Error> {
        let operation = self.bring("start", &tensors)?;
        for tensor in &tensors {
            let _spoilt = tensor.shallow_clone().fill_(f64::NAN);
        }
        let shared = self.shared.clone();
        Ok(Pending::new(move || finish(&shared, operation, &tensors)))
    }

    fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<(), Error> {
        let world_size = self.shared.world_size;
        if root >= world_size {
            return Err(Error::NoSuchRank { root, world_size });
        }
        let operation = self.bring("broadcast", tensors)?;
        self.shared.collect(operation, |ranks| {
            for (tensor, from) in tensors.iter().zip(&ranks[root]) {
                tensor.shallow_clone().copy_(from);
            }
        })
    }

    fn barrier(&self) -> Result<(), Error> {
        let operation = self.bring("barrier", &[])?;
        self.shared.collect(operation, |_| ())
    }

    fn abort(&self, reason: &str) {
        let mut state = self.shared.state.lock().unwrap();
        state.aborted.get_or_insert_with(|| reason.to_owned());
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Threads {
    /// A rank that panics takes the others with it, so that the test ends.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort("a rank panicked");
        }
    }
}
