//! Stage `candidate(k)`: remove k main blocks and everything that became useless, retrain what is left.

use nettailor_domain::architecture::{Architecture, Gradient};
use nettailor_domain::stage::{FrontierPoint, Infeasible, StageOutcome, Tailored};
use nettailor_domain::task::{CandidateSettings, StudentSettings};
use nettailor_domain::units::Accuracy;

use super::{Error, Stage, student};
use crate::model::Network;

pub(super) fn run(
    stage: &mut Stage<'_>,
    k: usize,
    settings: &CandidateSettings,
    losses: &StudentSettings,
) -> Result<StageOutcome, Error> {
    let network = match pruned(stage, k, settings, losses)? {
        Ok(network) => network,
        Err(infeasible) => return Ok(StageOutcome::Infeasible(infeasible)),
    };
    let losses = settled(losses);
    let (network, held_out) = student::train(stage, network, &losses, &settings.training, &no_complexity)?;
    let epochs = f64::from(settings.training.epochs);
    Ok(StageOutcome::Candidate(Tailored {
        point: stage.point(&network, k, &losses, held_out, epochs),
        architecture: network.architecture,
    }))
}

/// The student without k of its main blocks, with statistics estimated anew where no training will move them.
pub(super) fn pruned(
    stage: &mut Stage<'_>,
    k: usize,
    settings: &CandidateSettings,
    losses: &StudentSettings,
) -> Result<Result<Network, Infeasible>, Error> {
    let parent = stage.parent("student", |outcome| {
        matches!(outcome, StageOutcome::Student { .. })
    })?;
    let StageOutcome::Student { architecture, .. } = &parent.result.outcome else {
        return Err(Error::NoParent { what: "student" });
    };
    let pruned = match architecture.prune(k, settings.proxy_threshold) {
        Ok(pruned) => pruned,
        Err(reason) => {
            let reason = reason.to_string();
            return Ok(Err(Infeasible { k, reason }));
        }
    };
    let network = stage.tailored(pruned, losses.bn_mode, parent)?;
    // Some tens of training steps replace the running statistics whatever they were: estimates would go unseen.
    if settings.training.epochs == 0 {
        let batch_size = settings.training.batch_size as usize;
        stage.estimate_statistics(&network, student::mode(losses), settings.bn_batches, batch_size)?;
    }
    Ok(Ok(network))
}

/// The losses of a pruned network: its architecture is settled, so there is no more pressure on its complexity.
pub(super) fn settled(losses: &StudentSettings) -> StudentSettings {
    StudentSettings {
        gamma1: 0.0,
        ..losses.clone()
    }
}

/// Stands for E[C] where gamma1 is 0 and nobody asks.
pub(super) fn no_complexity(_: &Architecture) -> (f64, Gradient) {
    (0.0, Gradient::new())
}

impl Stage<'_> {
    /// Where a candidate lies on the frontier.
    pub(super) fn point(
        &self,
        network: &Network,
        k: usize,
        losses: &StudentSettings,
        held_out: Accuracy,
        epochs: f64,
    ) -> FrontierPoint {
        let spec = &self.assignment.spec;
        let (classes, input) = (spec.classes.len() as u32, spec.reading.image_size);
        FrontierPoint {
            k,
            counts: network.architecture.counts_under(losses.bn_mode, classes, input),
            held_out,
            epochs,
        }
    }
}
