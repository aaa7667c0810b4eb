//! What a running stage says: progress at most once a second, on a sink that writes events where the agent reads them.

use std::time::Duration;

use nettailor_domain::trainer::{Checkpoint, Progress, TrainerEvent};

use crate::runtime::Clock;
use crate::step::Losses;

/// Least time between two reports of one phase.
const INTERVAL: Duration = Duration::from_secs(1);

/// Takes events. It must not fail silently: a sink that cannot write ends the process.
pub type Sink<'a> = dyn FnMut(&TrainerEvent) + 'a;

/// Collects what happens and reports it now and then.
pub struct Reporter<'a> {
    sink: &'a mut Sink<'a>,
    /// Whether it says anything: one rank of a gang does.
    speaks: bool,
    clock: Clock,
    now: Progress,
    /// Steps that an earlier attempt has done.
    earlier: u64,
    /// Sums since the last report.
    sums: Losses,
    steps: u64,
    images: u64,
    /// When the last report went out, and when training started.
    reported: Duration,
    started: Duration,
}

impl<'a> Reporter<'a> {
    /// Reports to `sink`, if it is to speak.
    pub fn new(sink: &'a mut Sink<'a>, clock: Clock, speaks: bool) -> Self {
        let now = Progress::default();
        let zero = Duration::ZERO;
        Self {
            sink,
            speaks,
            clock,
            now,
            earlier: 0,
            sums: Losses::default(),
            steps: 0,
            images: 0,
            reported: zero,
            started: zero,
        }
    }

    /// Says that `phase` begins.
    pub fn phase(&mut self, phase: &str) {
        if self.now.phase != phase {
            phase.clone_into(&mut self.now.phase);
            self.send();
        }
    }

    /// Says how much training there will be, and how much of it an earlier attempt has done.
    pub fn start_training(&mut self, [behind, epochs]: [u32; 2], [earlier, steps]: [u64; 2]) {
        self.now = Progress {
            epochs,
            steps,
            epoch: behind + 1,
            step: earlier,
            ..Progress::default()
        };
        self.earlier = earlier;
        self.started = self.clock.elapsed();
        self.phase("training");
    }

    /// Counts a step of epoch `epoch` (from 1) over `images` images.
    pub fn step(&mut self, epoch: u32, images: u64, losses: Losses) {
        self.now.epoch = epoch;
        self.now.step += 1;
        self.steps += 1;
        self.images += images;
        self.sums.total += losses.total;
        self.sums.cross_entropy += losses.cross_entropy;
        self.sums.hint += losses.hint;
        self.sums.complexity += losses.complexity;
        if self.clock.elapsed() - self.reported >= INTERVAL || self.now.step == self.now.steps {
            self.send();
        }
    }

    /// Notes a held-out accuracy, and reports it.
    pub fn held_out(&mut self, fraction: f64) {
        self.now.held_out = Some(fraction);
        self.send();
    }

    /// Says that a checkpoint is complete.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) {
        if self.speaks {
            (self.sink)(&TrainerEvent::Checkpoint(checkpoint));
        }
    }

    fn send(&mut self) {
        let elapsed = self.clock.elapsed();
        let seconds = (elapsed - self.reported).as_secs_f64();
        if self.steps > 0 {
            let mean = |sum: f64| sum / self.steps as f64;
            self.now.loss = mean(self.sums.total);
            self.now.cross_entropy = mean(self.sums.cross_entropy);
            self.now.hint = mean(self.sums.hint);
            self.now.expected_complexity = mean(self.sums.complexity);
            self.now.images_per_second = self.images as f64 / seconds.max(1e-9);
            let done = self.now.step - self.earlier;
            let pace = (elapsed - self.started).as_secs_f64() / done as f64;
            self.now.eta_seconds = Some(pace * self.now.steps.saturating_sub(self.now.step) as f64);
        }
        if self.speaks {
            (self.sink)(&TrainerEvent::Progress(self.now.clone()));
        }
        (self.sums, self.steps, self.images) = (Losses::default(), 0, 0);
        self.reported = elapsed;
    }
}
