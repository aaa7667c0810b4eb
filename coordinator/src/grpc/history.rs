//! What happened, read where it is kept.

use nettailor_domain::explain::{Explanation, Happening};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_scheduler::record::{EventRecord, Subject};

use super::{Context, chain};

/// So many of the latest happenings come with an explanation.
const LATEST: usize = 3;

/// What happened to a subject, the oldest first.
pub(super) async fn of(context: &Context, subject: Subject) -> Result<Vec<EventRecord>, Error> {
    let history = context.history.clone();
    let read = tokio::task::spawn_blocking(move || history.of(&subject));
    let read = read
        .await
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    read.map_err(|error| Error::new(Code::Internal, chain(&error)))
}

/// An explanation with what happened last.
pub(super) async fn explained(
    context: &Context,
    mut explanation: Explanation,
    subject: Option<Subject>,
) -> Result<v1::Explanation, Error> {
    if let Some(subject) = subject {
        let events = of(context, subject).await?;
        let latest = events.len().saturating_sub(LATEST);
        explanation.events = events
            .into_iter()
            .skip(latest)
            .map(|event| event.happening)
            .collect();
    }
    let json = serde_json::to_vec(&explanation);
    let json = json.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    Ok(v1::Explanation { json })
}

/// Something that happened to a job, or to a stage of this kind.
pub(super) fn message(happening: Happening, stage: String) -> v1::HistoryEvent {
    v1::HistoryEvent {
        time_ms: happening.at_ms,
        stage,
        attempt: happening.attempt,
        what: happening.what.as_str().to_owned(),
        reason: happening.reason,
    }
}
