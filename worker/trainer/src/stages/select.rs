//! Stage `select`: the teacher and the chosen candidate on the test split, as they would be deployed. Nothing else ever
//! reads that split.

use nettailor_domain::stage::{Latency, StageOutcome};
use nettailor_domain::task::BnMode;

use super::{Error, Stage};
use crate::data::Split;
use crate::model::{Network, latency};

pub(super) fn run(stage: &mut Stage<'_>) -> Result<StageOutcome, Error> {
    let selection = stage.assignment.selection.ok_or(Error::NoSelection)?;
    let chosen = |outcome: &StageOutcome| {
        outcome
            .tailored()
            .is_some_and(|tailored| tailored.point.k == selection.k)
    };
    let what = "chosen candidate";
    let parent = stage.parent(what, chosen)?;
    let tailored = parent.result.outcome.tailored().ok_or(Error::NoParent { what })?;
    // Whatever the task keeps of batch norms, its weights hold it.
    let network = stage.tailored(tailored.architecture.clone(), BnMode::Task, parent)?;
    let network = network.deployed()?;
    let teacher = stage.teacher()?;
    let teacher_test = stage.evaluate(&teacher, Split::Test)?;
    let test = stage.evaluate(&network, Split::Test)?;
    stage.report.phase("measuring latency");
    Ok(StageOutcome::Select {
        selection,
        teacher_test,
        test,
        teacher_latency: measure(stage, &teacher)?,
        latency: measure(stage, &network)?,
    })
}

fn measure(stage: &Stage<'_>, network: &Network) -> Result<Latency, Error> {
    let input = stage.assignment.spec.reading.image_size;
    let milliseconds = |batch| Ok::<_, Error>(latency::network(network, input, batch)?.as_secs_f64() * 1e3);
    Ok(Latency {
        batch_1_ms: milliseconds(1)?,
        batch_32_ms: milliseconds(32)?,
    })
}
