//! Much of the same on all cores.

use rayon::prelude::*;

/// Things from which on a hand-over to other threads is worth its while: some milliseconds of work.
const WORTHWHILE: usize = 4096;

/// Makes something of each thing, in order: many are shared out among all cores.
pub fn map_each<T: Send, U: Send>(things: Vec<T>, make: impl Fn(T) -> U + Send + Sync) -> Vec<U> {
    match things.len() < WORTHWHILE {
        true => things.into_iter().map(make).collect(),
        false => things.into_par_iter().map(make).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_however_many_there_are() {
        for number in [0, 3, WORTHWHILE - 1, WORTHWHILE, 5 * WORTHWHILE] {
            let doubled = map_each((0..number).collect(), |thing| 2 * thing);
            assert!(doubled.into_iter().eq((0..number).map(|thing| 2 * thing)));
        }
    }
}
