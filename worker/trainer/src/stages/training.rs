//! The one training loop, and evaluation.

use nettailor_domain::task::{Schedule, TrainingSettings};
use nettailor_domain::units::Accuracy;

use super::checkpoint::Position;
use super::{Error, Stage};
use crate::data::Split;
use crate::model::{Mode, Network, Statistics};
use crate::step::{self, Learner, Moment, Part};

/// Held-out accuracy is measured after every so many epochs, and after the last.
const EVALUATE_EVERY: u64 = 4;
/// Images of an evaluation's batch: enough to keep the cores busy, little enough to need less memory than training.
const EVALUATION_BATCH: usize = 64;

/// Learning rate of a step: `done` of all `steps` are behind it, and so are `epoch` epochs.
fn learning_rate(settings: &TrainingSettings, epoch: u32, done: u64, steps: u64) -> f64 {
    let share = match settings.schedule {
        Schedule::Step => {
            let passed = |share: &&f64| f64::from(epoch) >= **share * f64::from(settings.epochs) - 1e-9;
            let milestones = settings.milestones.iter().filter(passed).count();
            0.1f64.powi(milestones as i32)
        }
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done as f64 / steps as f64).cos()),
    };
    settings.learning_rate * share
}

/// Which steps are run.
struct Span {
    /// Batches behind the run: images are those that follow.
    before: u64,
    /// Steps of the run.
    steps: u64,
    /// Those that an earlier attempt has done.
    done: u64,
    /// Whether checkpoints are left on the way.
    keeps: bool,
}

impl Stage<'_> {
    /// Trains for all epochs, from where an earlier attempt has left it. Returns each network's held-out accuracy at the
    /// end.
    pub(super) fn train(
        &mut self,
        learner: &mut dyn Learner,
        settings: &TrainingSettings,
    ) -> Result<Vec<Accuracy>, Error> {
        let mut done = 0;
        if let Some((position, state)) = self.checkpoints.take() {
            learner.restore(&state, position.step)?;
            done = position.step;
        }
        let span = Span {
            before: 0,
            steps: self.epoch_steps(settings) * u64::from(settings.epochs),
            done,
            keeps: true,
        };
        self.run_steps(span, learner, settings)
    }

    /// Steps of one epoch.
    pub(super) fn epoch_steps(&self, settings: &TrainingSettings) -> u64 {
        self.data.train_steps(settings.batch_size as usize) as u64
    }

    /// Trains for `steps` steps, with the schedule of a whole training, on the images that come after the first `before`
    /// batches: for what has been trained on those. Leaves no checkpoints.
    pub(super) fn train_part(
        &mut self,
        before: u64,
        steps: u64,
        learner: &mut dyn Learner,
        settings: &TrainingSettings,
    ) -> Result<Vec<Accuracy>, Error> {
        let span = Span {
            before,
            steps,
            done: 0,
            keeps: false,
        };
        self.run_steps(span, learner, settings)
    }

    fn run_steps(
        &mut self,
        span: Span,
        learner: &mut dyn Learner,
        settings: &TrainingSettings,
    ) -> Result<Vec<Accuracy>, Error> {
        let (batch_size, per_epoch) = (settings.batch_size as usize, self.epoch_steps(settings));
        // Of one image there are no batch statistics.
        let alone = self.gang.world_size() == 1 || self.assignment.spec.sync_bn;
        self.data.check_shares(batch_size, if alone { 1 } else { 2 })?;
        let Span { steps, mut done, .. } = span;
        let epochs = |steps: u64| steps.div_ceil(per_epoch) as u32;
        self.report
            .start_training([epochs(done), epochs(steps)], [done, steps]);
        while done < steps {
            self.report.phase("training");
            let at = span.before + done;
            let (pass, first) = ((at / per_epoch) as u32, (at % per_epoch) as usize);
            let batches = self.data.train_batches_from(pass, batch_size, first);
            for batch in batches.take((steps - done) as usize) {
                let batch = batch?;
                let (images, labels) = self.tensors(&batch)?;
                let part = Part {
                    images: &images,
                    labels: &labels,
                    whole: batch.whole as i64,
                };
                let epoch = (done / per_epoch) as u32;
                let at = Moment {
                    learning_rate: learning_rate(settings, epoch, done, steps),
                    progress: done as f64 / steps as f64,
                };
                let losses = learner.step(part, at)?;
                if let Some(ledger) = &mut self.ledger {
                    ledger.note(&self.data, pass, span.before + done, &batch)?;
                }
                done += 1;
                self.report.step(epoch + 1, batch.whole as u64, losses);
            }
            if done == steps {
                break;
            }
            if done % (EVALUATE_EVERY * per_epoch) == 0 {
                learner.exchange_averages()?;
                self.held_out(learner)?;
                learner.exchange_averages()?;
            }
            if span.keeps {
                let position = || Position {
                    epoch: epochs(done),
                    step: done,
                    ..Position::default()
                };
                self.checkpoint(|| learner.state(), position)?;
            }
        }
        learner.keep_averages()?;
        self.agree(&learner.state()?)?;
        self.held_out(learner)
    }

    /// Held-out accuracy of every network in training; the best is reported. Of several, one that has diverged is right
    /// nowhere.
    fn held_out(&mut self, learner: &dyn Learner) -> Result<Vec<Accuracy>, Error> {
        let networks = learner.networks();
        let several = networks.len() > 1;
        let nowhere = Accuracy {
            correct: 0,
            total: self.data.len(Split::HeldOut) as u64,
        };
        let mut measure = |network| match self.evaluate(network, Split::HeldOut) {
            Err(Error::Step(step::Error::Diverged { .. })) if several => Ok(nowhere),
            measured => measured,
        };
        let measured: Vec<Accuracy> = networks.into_iter().map(&mut measure).collect::<Result<_, _>>()?;
        let best = measured.iter().map(Accuracy::fraction).fold(0.0, f64::max);
        self.report.held_out(best);
        Ok(measured)
    }

    /// Accuracy on a split, in evaluation mode; the ranks share its batches. A network that has diverged is refused: the
    /// loss of a step is looked at before its update, so nothing else sees what the last one did.
    pub(super) fn evaluate(&mut self, network: &Network, split: Split) -> Result<Accuracy, Error> {
        self.report.phase("evaluating");
        let (mut correct, mut total, mut diverged) = (0, 0, 0);
        for batch in self.data.eval_batches(split, EVALUATION_BATCH) {
            let batch = batch?;
            let (images, labels) = self.tensors(&batch)?;
            let logits = tch::no_grad(|| network.forward(&images, Mode::EVALUATE))?.logits;
            diverged += 1 - logits.f_isfinite()?.f_all()?.f_int64_value(&[])?;
            let right = logits
                .f_argmax(1, false)?
                .f_eq_tensor(&labels)?
                .f_sum(tch::Kind::Int64)?;
            correct += right.f_int64_value(&[])?;
            total += batch.labels.len() as i64;
        }
        let mut sums = [correct, total, diverged];
        step::sum(self.gang, self.layout.device, &mut sums)?;
        let [correct, total, diverged] = sums;
        if diverged > 0 {
            return Err(step::Error::Diverged { loss: f64::NAN }.into());
        }
        Ok(Accuracy {
            correct: correct as u64,
            total: total as u64,
        })
    }

    /// Estimates running statistics anew: their mean over `count` training batches, without gradients. The ranks share the
    /// batches, whole ones. Statistics that `mode` does not touch in training stay as they are.
    pub(super) fn estimate_statistics(
        &mut self,
        network: &Network,
        mode: Mode<'_>,
        count: u32,
        batch_size: usize,
    ) -> Result<(), Error> {
        if count == 0 {
            return Ok(());
        }
        self.report.phase("estimating statistics");
        let mut seen = 0;
        for batch in self.data.train_batches_dealt(count as usize, batch_size) {
            let (images, _) = self.tensors(&batch?)?;
            seen += 1;
            // 1, 1/2, 1/3, ...: the first batch replaces what was there, each later one joins the mean.
            let momentum = 1.0 / f64::from(seen);
            let averaged = |statistics| match statistics {
                Statistics::Running => Statistics::Running,
                Statistics::Batch { .. } | Statistics::Gang { .. } => Statistics::Batch { momentum },
            };
            let mode = Mode {
                universal: averaged(mode.universal),
                task: averaged(mode.task),
            };
            let images_of_batch = images.size()[0];
            let mode = mode.for_batch(images_of_batch, images_of_batch);
            tch::no_grad(|| network.forward(&images, mode))?;
        }
        let share = f64::from(seen) / f64::from(count);
        Ok(step::average_statistics(self.gang, network, share)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(schedule: Schedule) -> TrainingSettings {
        TrainingSettings {
            epochs: 12,
            batch_size: 32,
            learning_rate: 0.1,
            schedule,
            milestones: vec![1.0 / 3.0, 2.0 / 3.0],
            momentum: 0.9,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            ema: 0.0,
        }
    }

    #[test]
    fn the_rate_falls_to_a_tenth_at_each_share_of_the_epochs() {
        let settings = settings(Schedule::Step);
        for (epoch, expected) in [(0, 0.1), (3, 0.1), (4, 0.01), (7, 0.01), (8, 0.001), (11, 0.001)] {
            let rate = learning_rate(&settings, epoch, 0, 1);
            assert!((rate - expected).abs() < 1e-12, "epoch {epoch}: {rate}");
        }
    }

    #[test]
    fn a_cosine_falls_step_by_step_and_ignores_milestones() {
        let settings = settings(Schedule::Cosine);
        for (done, expected) in [
            (0, 0.1),
            (30, 0.1 * 0.853_553),
            (60, 0.05),
            (119, 0.1 * 0.000_171),
        ] {
            let rate = learning_rate(&settings, 11, done, 120);
            assert!((rate - expected).abs() < 1e-6, "step {done}: {rate}");
        }
    }
}
