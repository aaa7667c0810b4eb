//! Why something stands where it stands, as an answer to who asked. For programs it is the coordinator's own, number by number.

use chrono::{DateTime, Utc};
use nettailor_domain::explain::{Binding, Eta, Explanation, Happening, Position};
use serde::Serialize;

use crate::output::{Detail, Sheet};
use crate::quantity::{moment, ordinal, show_moment};

/// Why a job, a stage or a worker stands where it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct ExplanationView(Explanation);

impl From<Explanation> for ExplanationView {
    fn from(explanation: Explanation) -> Self {
        Self(explanation)
    }
}

impl Detail for ExplanationView {
    fn names(&self) -> Vec<String> {
        vec![self.0.subject.clone()]
    }

    fn describe(&self, _: &Sheet) -> String {
        let explanation = &self.0;
        let day = moment(explanation.decided_ms);
        let mut lines = vec![
            standing(explanation),
            sentence(&explanation.reason),
            explanation.position.as_ref().map(place).unwrap_or_default(),
            expected(explanation, day),
            advice(explanation, day),
        ];
        lines.extend(history(&explanation.events, day));
        let said = lines.iter().filter(|line| !line.is_empty());
        said.map(|line| format!("{line}\n")).collect()
    }
}

/// `student of job digits-abc234 is queued.`
fn standing(explanation: &Explanation) -> String {
    let verb = match (&explanation.binding, explanation.state.as_str()) {
        (Binding::Over, "succeeded" | "failed") => "has",
        (Binding::Over, "cancelled") => "was",
        _ => "is",
    };
    format!("{} {verb} {}.", explanation.subject, explanation.state)
}

/// Words of the coordinator with a capital and a full stop; several lines stay as they are but for these.
fn sentence(words: &str) -> String {
    let words = words.trim();
    let mut letters = words.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let stop = if words.ends_with(['.', '!', '?', ':']) {
        ""
    } else {
        "."
    };
    format!("{}{}{stop}", first.to_uppercase(), letters.as_str())
}

/// `Place 3 of 12 of user alice; alice is 2nd of 30 users who wait.`
fn place(position: &Position) -> String {
    let Position {
        own,
        own_of,
        user,
        users,
        name,
    } = position;
    let own = format!("Place {own} of {own_of} of user {name}");
    match users {
        0 | 1 => format!("{own}; no other user waits."),
        _ => format!("{own}; {name} is {} of {users} users who wait.", ordinal(*user)),
    }
}

/// `Expected to start about 14:20:00Z (median of the last 16 teachers of resnet18: 12 min).`
fn expected(explanation: &Explanation, day: Option<DateTime<Utc>>) -> String {
    let Some(Eta { at_ms, basis }) = &explanation.eta else {
        return String::new();
    };
    let event = match explanation.binding {
        Binding::Runs { .. } | Binding::Away { .. } | Binding::Stopping { .. } => "end",
        _ => "start",
    };
    match at_ms {
        Some(at) if basis.is_empty() => format!("Expected to {event} about {}.", clock(*at, day)),
        Some(at) => format!("Expected to {event} about {} ({basis}).", clock(*at, day)),
        None if basis.is_empty() => String::new(),
        None => format!("When it will {event} is not known: {basis}."),
    }
}

/// `Decided at 2026-11-26 14:03:22Z. To get on: start a worker with --label gpu=h100.`
fn advice(explanation: &Explanation, day: Option<DateTime<Utc>>) -> String {
    let decided = day.map(|day| format!("Decided at {}.", show_moment(Some(day))));
    let action = explanation.action.trim().trim_end_matches('.');
    let action = (!action.is_empty()).then(|| format!("To get on: {action}."));
    let parts = [decided, action].into_iter().flatten();
    parts.collect::<Vec<_>>().join(" ")
}

/// A line for each event under a heading; reasons are too long to stand beside each other.
fn history(events: &[Happening], day: Option<DateTime<Utc>>) -> Vec<String> {
    let line = |event: &Happening| {
        let what = match event.attempt {
            0 => event.what.as_str().to_owned(),
            attempt => format!("{} (attempt {attempt})", event.what.as_str()),
        };
        let reason = match event.reason.as_str() {
            "" => String::new(),
            reason => format!(": {}", reason.replace('\n', "\n    ")),
        };
        format!("  {}  {what}{reason}", clock(event.at_ms, day))
    };
    let heading = (!events.is_empty()).then(|| "Last:".to_owned());
    heading.into_iter().chain(events.iter().map(line)).collect()
}

/// The time alone on `day`, with the date on any other.
fn clock(ms: u64, day: Option<DateTime<Utc>>) -> String {
    let at = moment(ms);
    match at.zip(day) {
        Some((at, day)) if at.date_naive() == day.date_naive() => at.format("%H:%M:%SZ").to_string(),
        _ => show_moment(at),
    }
}

#[cfg(test)]
mod tests;
