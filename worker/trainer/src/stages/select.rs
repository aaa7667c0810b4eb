//! Stage `select`: the teacher and the chosen candidate on the test split. Nothing else ever reads that split.

use nettailor_domain::stage::StageOutcome;

use super::{Error, Stage};
use crate::data::Split;

pub(super) fn run(stage: &mut Stage<'_>) -> Result<StageOutcome, Error> {
    let selection = stage.assignment.selection.ok_or(Error::NoSelection)?;
    let chosen =
        |outcome: &StageOutcome| matches!(outcome, StageOutcome::Candidate { k, .. } if *k == selection.k);
    let parent = stage.parent("chosen candidate", chosen)?;
    let StageOutcome::Candidate { architecture, .. } = &parent.result.outcome else {
        return Err(Error::NoParent {
            what: "chosen candidate",
        });
    };
    let network = stage.tailored(architecture.clone(), parent)?.deployed()?;
    let teacher = stage.teacher()?;
    let teacher_test = stage.evaluate(&teacher, Split::Test)?;
    let test = stage.evaluate(&network, Split::Test)?;
    Ok(StageOutcome::Select {
        selection,
        teacher_test,
        test,
    })
}
