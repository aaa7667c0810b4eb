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
            key,
            attempts: 0,
            skipped: UNKNOWN,
            faults: 0,
            losses: 0,
            returns: 0,
            checkpoint: None,
            state: StageState::Pending,
        })))
    });
    rows.extend(new);
}
