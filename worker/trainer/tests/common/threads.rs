//! Gangs whose ranks are threads of this process. They meet as trainers do, over gloo.

use std::cell::RefCell;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use nettailor_collective::{Collective, Error, GangSettings, Limits, Pending, Reduction, join};
use nettailor_trainer::runtime;
use tch::{Device, Tensor};

/// A busy machine is not taken for a loss.
const PATIENT: Limits = Limits {
    beat: Duration::from_millis(100),
    silence: Duration::from_secs(60),
    reach: Duration::from_secs(60),
    join: Duration::from_secs(60),
};

/// One rank.
pub(crate) struct Threads {
    gang: Box<dyn Collective>,
    /// What was asked of this rank, in order.
    log: RefCell<Vec<&'static str>>,
}

/// Runs `work` as every rank of a gang; what each returned, by rank. One that panics takes the others with it.
pub(crate) fn run<T: Send>(world_size: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
    let (place, told) = (Mutex::new(None), Condvar::new());
    let enter = |rank| {
        let settings = GangSettings {
            gang: "stage#1".to_owned(),
            rank,
            world_size,
            device: Device::Cpu,
            limits: PATIENT,
            on_abort: None,
        };
        let mut tell = |port: u16| {
            *place.lock().unwrap() = Some(format!("localhost:{port}"));
            told.notify_all();
        };
        let ask = || {
            let place = told.wait_timeout_while(place.lock().unwrap(), PATIENT.join, |place| place.is_none());
            place
                .unwrap()
                .0
                .clone()
                .ok_or_else(|| std::io::ErrorKind::TimedOut.into())
        };
        join(&settings, &mut tell, ask).unwrap()
    };
    let (enter, work) = (&enter, &work);
    std::thread::scope(|scope| {
        let ranks = (0..world_size).map(|rank| {
            scope.spawn(move || {
                runtime::flush_denormals();
                let rank = Threads {
                    gang: enter(rank),
                    log: RefCell::default(),
                };
                let found = work(&rank);
                // A gang that the work itself broke up cannot be left, and need not be.
                rank.leave().ok();
                found
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

impl Threads {
    /// What was asked of this rank so far, in order: `start` for what goes on while the rank does, `mean`, `sum` or
    /// `broadcast` for what it waits for.
    #[allow(dead_code, reason = "not every test that has a gang looks into it")]
    pub(crate) fn log(&self) -> Vec<&'static str> {
        self.log.borrow().clone()
    }

    fn note(&self, what: &'static str) {
        self.log.borrow_mut().push(what);
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.gang.rank()
    }

    fn world_size(&self) -> usize {
        self.gang.world_size()
    }

    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> Result<Pending, Error> {
        self.note("start");
        self.gang.start_all_reduce(tensors, reduction)
    }

    fn all_reduce_mean(&self, tensors: &[Tensor]) -> Result<(), Error> {
        self.note("mean");
        self.gang.all_reduce_mean(tensors)
    }

    fn all_reduce_sum(&self, tensors: &[Tensor]) -> Result<(), Error> {
        self.note("sum");
        self.gang.all_reduce_sum(tensors)
    }

    fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<(), Error> {
        self.note("broadcast");
        self.gang.broadcast(tensors, root)
    }

    fn barrier(&self) -> Result<(), Error> {
        self.gang.barrier()
    }

    fn abort(&self, reason: &str) {
        self.gang.abort(reason);
    }

    fn leave(&self) -> Result<(), Error> {
        self.gang.leave()
    }
}
