//! Stage `candidate(k)`: remove k main blocks and everything that became useless, re-estimate statistics, retrain.

use nettailor_domain::architecture::{Architecture, Gradient};
use nettailor_domain::stage::StageOutcome;
use nettailor_domain::task::{CandidateSettings, StudentSettings};

use super::{Error, Stage, student};

pub(super) fn run(
    stage: &mut Stage<'_>,
    k: usize,
    settings: &CandidateSettings,
    losses: &StudentSettings,
) -> Result<StageOutcome, Error> {
    let parent = stage.parent("student", |outcome| {
        matches!(outcome, StageOutcome::Student { .. })
    })?;
    let StageOutcome::Student { architecture, .. } = &parent.result.outcome else {
        return Err(Error::NoParent { what: "student" });
    };
    let pruned = match architecture.prune(k, settings.proxy_threshold) {
        Ok(pruned) => pruned,
        Err(reason) => {
            return Ok(StageOutcome::Infeasible {
                k,
                reason: reason.to_string(),
            });
        }
    };
    let network = stage.tailored(pruned, parent)?;
    let mode = student::mode(losses);
    stage.estimate_statistics(
        &network,
        mode,
        settings.bn_batches,
        settings.training.batch_size as usize,
    )?;
    // The architecture is settled: no more pressure on its complexity.
    let losses = StudentSettings {
        gamma1: 0.0,
        ..losses.clone()
    };
    let unused = |_: &Architecture| (0.0, Gradient::new());
    let (network, held_out) = student::train(stage, network, &losses, &settings.training, &unused)?;
    let spec = &stage.assignment.spec;
    let counts = network
        .architecture
        .counts(spec.classes.len() as u32, spec.reading.image_size);
    Ok(StageOutcome::Candidate {
        k,
        architecture: network.architecture,
        counts,
        held_out,
    })
}
