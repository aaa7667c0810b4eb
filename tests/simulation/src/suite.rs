//! Many plans.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::plan::Plan;
use crate::world::{Fired, live};

/// What came of the plans of some seeds.
#[derive(Debug, Default)]
pub struct Suite {
    /// Plans that were lived through.
    pub plans: u64,
    /// Requests that were applied in them.
    pub requests: u64,
    /// How often each fault has happened.
    pub fired: Fired,
    /// The plan of the smallest of the seeds that broke a promise, with what it broke.
    pub broken: Option<(Plan, String)>,
}

/// Lives through the plans of these seeds on so many threads, until a promise is broken. Each thread calls `prepare` before.
pub fn run(seeds: Range<u64>, threads: usize, prepare: impl Fn() + Sync) -> Suite {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let one = || {
        prepare();
        let mut suite = Suite::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                break;
            }
            let plan = Plan::of_seed(seed);
            let outcome = live(&plan);
            suite.plans += 1;
            suite.requests += outcome.requests;
            for (fault, count) in outcome.fired {
                *suite.fired.entry(fault).or_default() += count;
            }
            if let Err(error) = outcome.verdict {
                stop.store(true, Ordering::Relaxed);
                suite.broken = Some((plan, error));
            }
        }
        suite
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let mut total = Suite::default();
        for thread in running {
            let suite = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            total.add(suite);
        }
        total
    })
}

impl Suite {
    fn add(&mut self, other: Self) {
        self.plans += other.plans;
        self.requests += other.requests;
        for (fault, count) in other.fired {
            *self.fired.entry(fault).or_default() += count;
        }
        let found = self.broken.take().into_iter().chain(other.broken);
        self.broken = found.min_by_key(|(plan, _)| plan.seed);
    }
}
