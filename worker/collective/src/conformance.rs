//! What every implementation must do, as one function to run it through.

use tch::{Kind, Tensor};

use crate::{Collective, Error};

/// Joins `world_size` ranks, each on a thread of its own that calls `join(rank)`, and checks every operation.
///
/// # Panics
/// Where an implementation does not conform; the message names the operation.
pub fn check<C, J>(world_size: usize, join: J)
where
    C: Collective,
    J: Fn(usize) -> C + Sync,
{
    let join = &join;
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..world_size)
            .map(|rank| scope.spawn(move || check_rank(&join(rank), rank, world_size)))
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

fn check_rank(gang: &impl Collective, rank: usize, world_size: usize) {
    assert_eq!(gang.rank(), rank, "rank");
    assert_eq!(gang.world_size(), world_size, "world size");
    gang.barrier().expect("barrier");

    // The mean of rank + 1 over the ranks, times position; several tensors of several shapes at once, views included.
    let mean = (world_size as f64 + 1.0) / 2.0;
    let base = numbered(rank);
    let matrix = numbered(rank).view([3, 1]).repeat([1, 2]);
    gang.all_reduce_mean(&[base.narrow(0, 1, 2), matrix.shallow_clone()])
        .expect("all-reduce");
    close(
        &base,
        &[rank as f64 + 1.0, 2.0 * mean, 3.0 * mean],
        "all-reduce of a view",
    );
    close(
        &matrix.view([-1]),
        &[mean, mean, 2.0 * mean, 2.0 * mean, 3.0 * mean, 3.0 * mean],
        "all-reduce of a matrix",
    );
    gang.all_reduce_mean(&[]).expect("all-reduce of nothing");

    for root in 0..world_size {
        let tensor = numbered(rank);
        gang.broadcast(&[tensor.shallow_clone()], root)
            .expect("broadcast");
        close(
            &tensor,
            &[
                root as f64 + 1.0,
                2.0 * (root as f64 + 1.0),
                3.0 * (root as f64 + 1.0),
            ],
            "broadcast",
        );
    }
    let nobody = gang.broadcast(&[numbered(rank)], world_size);
    assert!(
        matches!(nobody, Err(Error::NoSuchRank { .. })),
        "broadcast from a rank that does not exist: {nobody:?}"
    );

    gang.barrier().expect("barrier before the abort");
    gang.abort("first reason");
    gang.abort("second reason");
    for (what, result) in [
        ("all-reduce", gang.all_reduce_mean(&[numbered(rank)])),
        ("broadcast", gang.broadcast(&[numbered(rank)], 0)),
        ("barrier", gang.barrier()),
    ] {
        let aborted = matches!(&result, Err(Error::Aborted { reason }) if reason.contains("first reason"));
        assert!(aborted, "{what} after an abort: {result:?}");
    }
}

fn close(tensor: &Tensor, expected: &[f64], what: &str) {
    let got: Vec<f64> = Vec::try_from(tensor.to_kind(Kind::Double)).expect("a one-dimensional tensor");
    let near = got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near, "{what}: expected {expected:?}, got {got:?}");
}
