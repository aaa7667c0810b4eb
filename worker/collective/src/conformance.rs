//! What every implementation must do, as functions to run it through. Each joins `world_size` ranks, every one on a thread
//! of its own that calls `join(rank)`, and panics where they do not conform; the message names the operation.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use crate::{Collective, Error, Reduction};

/// Every operation, and an abort at the end.
///
/// # Panics
/// Where the implementation does not conform.
pub fn check(world_size: usize, join: impl Fn(usize) -> Box<dyn Collective> + Sync) {
    let started = Muster::new(world_size);
    each_rank(world_size, |rank| {
        let gang = join(rank);
        assert_eq!(gang.rank(), rank, "rank");
        assert_eq!(gang.world_size(), world_size, "world size");
        gang.barrier().expect("barrier");
        means(gang.as_ref());
        sums(gang.as_ref());
        in_flight(gang.as_ref());
        identical(gang.as_ref());
        broadcasts(gang.as_ref());
        gang.barrier().expect("barrier before the abort");
        aborts(gang.as_ref(), &started);
    });
}

/// The end that all agree on.
///
/// # Panics
/// Where the implementation does not conform.
pub fn check_leave(world_size: usize, join: impl Fn(usize) -> Box<dyn Collective> + Sync) {
    each_rank(world_size, |rank| {
        let gang = join(rank);
        gang.all_reduce_mean(&[numbered(rank)]).expect("all-reduce");
        gang.leave().expect("leave");
        assert_aborted(&gang.barrier(), "left", "barrier after leaving");
        assert_aborted(&gang.leave(), "left", "leaving twice");
    });
}

/// What the others are told when rank `lost` is: `lose` makes it so, and gives back what must live on.
///
/// # Panics
/// Where they do not notice, or do not say `reason`.
pub fn check_loss<C: Collective>(
    world_size: usize,
    lost: usize,
    reason: &str,
    join: impl Fn(usize) -> C + Sync,
    lose: impl Fn(C) -> Option<C> + Sync,
) {
    // Whoever is slow in the barrier must not hear of the loss there.
    let met = Muster::new(world_size);
    let noticed = Muster::new(world_size);
    each_rank(world_size, |rank| {
        let gang = join(rank);
        gang.barrier().expect("barrier");
        met.wait();
        let (gang, result) = if rank == lost {
            (lose(gang), None)
        } else {
            let result = gang.all_reduce_mean(&[numbered(rank)]);
            (Some(gang), Some(result))
        };
        // What was lost stays so until the others have noticed, whatever they noticed.
        noticed.wait();
        drop(gang);
        if let Some(result) = result {
            assert_aborted(&result, reason, "all-reduce without the lost rank");
        }
    });
}

/// Where ranks wait for each other. One that does not come, because it has failed, is not waited for for ever.
pub(crate) struct Muster {
    missing: Mutex<usize>,
    complete: Condvar,
}

/// Far longer than any rank takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

impl Muster {
    /// Of so many ranks.
    pub(crate) fn new(ranks: usize) -> Self {
        Self {
            missing: Mutex::new(ranks),
            complete: Condvar::new(),
        }
    }

    /// Returns when all have come.
    ///
    /// # Panics
    /// When one does not.
    pub(crate) fn wait(&self) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing -= 1;
        self.complete.notify_all();
        let waited = self
            .complete
            .wait_timeout_while(missing, PATIENCE, |missing| *missing > 0);
        let (missing, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let count = *missing;
        drop(missing);
        assert_eq!(count, 0, "ranks that have not come");
    }
}

fn each_rank(world_size: usize, body: impl Fn(usize) + Sync) {
    let body = &body;
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..world_size)
            .map(|rank| scope.spawn(move || body(rank)))
            .collect();
        for rank in ranks {
            rank.join().expect("a rank did not conform");
        }
    });
}

/// A tensor that tells its rank and position: rank + 1, twice that, three times that.
fn numbered(rank: usize) -> Tensor {
    Tensor::from_slice(&[1.0f32, 2.0, 3.0]) * (rank as f64 + 1.0)
}

/// Several tensors of several shapes and kinds at once, with and without memory of their own.
fn means(gang: &dyn Collective) {
    let rank = gang.rank();
    let mean = (gang.world_size() as f64 + 1.0) / 2.0;
    let base = numbered(rank);
    let matrix = numbered(rank).view([3, 1]).repeat([1, 2]);
    let wide = numbered(rank).to_kind(Kind::Double);
    let narrow = numbered(rank).to_kind(Kind::BFloat16);
    let nothing = Tensor::zeros([0, 3], (Kind::Float, Device::Cpu));
    let weight = numbered(rank).set_requires_grad(true);
    gang.all_reduce_mean(&[
        base.narrow(0, 1, 2),
        matrix.transpose(0, 1),
        wide.shallow_clone(),
        nothing,
        narrow.shallow_clone(),
        weight.shallow_clone(),
    ])
    .expect("all-reduce");
    let whole = [mean, 2.0 * mean, 3.0 * mean];
    close(
        &base,
        &[rank as f64 + 1.0, 2.0 * mean, 3.0 * mean],
        "mean of a view",
    );
    close(
        &matrix,
        &[mean, mean, 2.0 * mean, 2.0 * mean, 3.0 * mean, 3.0 * mean],
        "mean of a transposed matrix",
    );
    close(&wide, &whole, "mean in double precision");
    close(&narrow, &whole, "mean in bf16");
    close(&weight.detach(), &whole, "mean of a variable");
    assert!(weight.requires_grad(), "a variable stays one");

    let alone = numbered(rank);
    gang.all_reduce_mean(&[alone.shallow_clone()])
        .expect("all-reduce of one tensor");
    close(&alone, &whole, "mean of one tensor");
    gang.all_reduce_mean(&[]).expect("all-reduce of nothing");

    let whole_numbers = gang.all_reduce_mean(&[Tensor::from_slice(&[1i64])]);
    assert!(
        matches!(
            whole_numbers,
            Err(Error::Kind {
                reduction: Reduction::Mean,
                kind: Kind::Int64
            })
        ),
        "mean of whole numbers: {whole_numbers:?}"
    );
}

fn sums(gang: &dyn Collective) {
    let world_size = i64::try_from(gang.world_size()).expect("a small gang");
    let rank = i64::try_from(gang.rank()).expect("a small gang");
    // Too large for a double: only whole arithmetic keeps the last digit.
    let large = 1i64 << 59;
    let count = Tensor::from_slice(&[large + rank, -rank]);
    let real = numbered(gang.rank());
    gang.all_reduce_sum(&[count.shallow_clone(), real.shallow_clone()])
        .expect("sum");
    let ranks = world_size * (world_size - 1) / 2;
    let got = Vec::<i64>::try_from(&count).expect("whole numbers");
    assert_eq!(got, [world_size * large + ranks, -ranks], "sum of whole numbers");
    let sum = (ranks + world_size) as f64;
    close(&real, &[sum, 2.0 * sum, 3.0 * sum], "sum of real numbers");
}

/// Several operations at once, waited for in order and in reverse, or not at all.
fn in_flight(gang: &dyn Collective) {
    let mean = (gang.world_size() as f64 + 1.0) / 2.0;
    for reverse in [false, true] {
        let mut started: Vec<_> = (1..=4i32)
            .map(|factor| {
                let tensor = numbered(gang.rank()).repeat([1000]) * f64::from(factor);
                let pending = gang
                    .start_all_reduce_mean(vec![tensor.shallow_clone()])
                    .expect("start");
                (factor, tensor, pending)
            })
            .collect();
        if reverse {
            started.reverse();
        }
        for (factor, tensor, pending) in started {
            pending.wait().expect("wait");
            let expected = [1.0, 2.0, 3.0].map(|position| position * mean * f64::from(factor));
            close(
                &tensor.narrow(0, 2997, 3),
                &expected,
                "one of several operations in flight",
            );
        }
    }
    let dropped = gang
        .start_all_reduce_mean(vec![numbered(gang.rank())])
        .expect("start");
    drop(dropped);
    gang.barrier()
        .expect("barrier behind an operation that nobody waits for");
}

/// Sums that depend on the order of their terms come out the same everywhere.
fn identical(gang: &dyn Collective) {
    let terms = (Tensor::arange(4099, (Kind::Float, Device::Cpu)) + 0.1 + gang.rank() as f64).sin();
    gang.all_reduce_mean(&[terms.shallow_clone()])
        .expect("all-reduce");
    let first = terms.copy();
    gang.broadcast(&[first.shallow_clone()], 0).expect("broadcast");
    assert_eq!(first, terms, "bits on rank {}", gang.rank());
}

fn broadcasts(gang: &dyn Collective) {
    for root in 0..gang.world_size() {
        let tensor = numbered(gang.rank());
        let count = Tensor::from_slice(&[gang.rank() as i64, 7]);
        gang.broadcast(&[tensor.shallow_clone(), count.shallow_clone()], root)
            .expect("broadcast");
        let number = root as f64 + 1.0;
        close(&tensor, &[number, 2.0 * number, 3.0 * number], "broadcast");
        close(&count, &[root as f64, 7.0], "broadcast of whole numbers");
    }
    let nobody = gang.broadcast(&[numbered(gang.rank())], gang.world_size());
    assert!(
        matches!(nobody, Err(Error::NoSuchRank { .. })),
        "broadcast from a rank that does not exist: {nobody:?}"
    );
}

/// Rank 0 aborts in place of an operation that all others have begun.
fn aborts(gang: &dyn Collective, started: &Muster) {
    let tensor = || vec![numbered(gang.rank())];
    if gang.rank() == 0 {
        started.wait();
        gang.abort("first reason");
        gang.abort("second reason");
    } else {
        let pending = gang.start_all_reduce_mean(tensor());
        started.wait();
        let blocked = pending.expect("start").synchronize();
        assert_aborted(&blocked, "first reason", "a blocked all-reduce");
    }
    for (what, result) in [
        ("all-reduce", gang.all_reduce_mean(&tensor())),
        ("start", gang.start_all_reduce_mean(tensor()).map(drop)),
        ("broadcast", gang.broadcast(&tensor(), 0)),
        ("barrier", gang.barrier()),
        ("leave", gang.leave()),
    ] {
        assert_aborted(&result, "first reason", what);
    }
}

fn assert_aborted(result: &Result<(), Error>, expected: &str, what: &str) {
    let aborted = matches!(result, Err(Error::Aborted { reason }) if reason.contains(expected));
    assert!(
        aborted,
        "{what}: expected an abort that says {expected:?}, got {result:?}"
    );
}

fn close(tensor: &Tensor, expected: &[f64], what: &str) {
    let flat = tensor.to_kind(Kind::Double).reshape([-1]);
    let got: Vec<f64> = Vec::try_from(flat).expect("real numbers");
    let near = got.len() == expected.len()
        && got
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs());
    assert!(near, "{what}: expected {expected:?}, got {got:?}");
}
