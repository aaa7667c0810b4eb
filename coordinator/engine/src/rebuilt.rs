//! A state that was rebuilt from the journal, which may lack the last second.

use std::collections::{BTreeSet, HashMap};

use nettailor_domain::ids::StageKey;
use nettailor_scheduler::record::{JobState, Record, StageRecord, StageState};

use crate::row::Row;

/// Numbers of attempts that the rows may not know of. Far more than a stage starts in a second.
const UNKNOWN: u32 = 100;

/// Has the next attempt of every unfinished stage leave out the numbers of attempts that were started and are not in `rows`:
/// what such an attempt reports must never count as that of another. An attempt that the rows know as running stays current.
pub fn skip_attempts(rows: &mut Vec<Row>) {
    let mut state = HashMap::new();
    for row in rows.iter() {
        if let Row::Record(Record::Status(status)) = row {
            state.insert(status.sequence, status.state == JobState::Active);
        }
    }
    // Stages without a row have not started as far as the rows know.
    let mut unfinished: BTreeSet<StageKey> = BTreeSet::new();
    for row in rows.iter() {
        if let Row::Record(Record::Job(job)) = row
            && state.get(&job.sequence).copied().unwrap_or(true)
        {
            unfinished.extend(&job.stages);
        }
    }
    for row in rows.iter_mut() {
        if let Row::Record(Record::Stage(stage)) = row {
            unfinished.remove(&stage.key);
            if !matches!(stage.state, StageState::Done { .. }) {
                stage.skipped = stage.skipped.saturating_add(UNKNOWN);
            }
        }
    }
    let new = unfinished.into_iter().map(|key| {
        Row::Record(Record::Stage(Box::new(StageRecord {
            skipped: UNKNOWN,
            ..StageRecord::new(key)
        })))
    });
    rows.extend(new);
}

#[cfg(test)]
mod tests {
    use nettailor_domain::ids::Digest;
    use nettailor_domain::trainer::FailureClass;
    use nettailor_scheduler::testing;

    use super::*;

    #[test]
    fn unfinished_stages_leave_numbers_out_and_keep_their_attempts() {
        let key = |name: &str| StageKey(Digest::of(name.as_bytes()));
        let stage = |name, attempts, state| {
            Row::Record(Record::Stage(Box::new(StageRecord {
                attempts,
                state,
                ..StageRecord::new(key(name))
            })))
        };
        let failure = testing::failure(FailureClass::Input);
        let mut rows = vec![
            stage("running", 3, testing::running()),
            stage("pending", 2, StageState::Pending),
            stage("failed", 1, StageState::Failed { failure }),
        ];
        for times in [1, 2] {
            skip_attempts(&mut rows);
            let found: Vec<(u32, u32)> = rows
                .iter()
                .map(|row| match row {
                    Row::Record(Record::Stage(stage)) => (stage.attempts, stage.skipped),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(found, [3, 2, 1].map(|attempts| (attempts, times * UNKNOWN)));
        }
    }
}
