use nettailor_domain::explain::{Holder, What};
use nettailor_domain::labels::Labels;

use super::*;

/// 2026-11-26 00:00:00 UTC, milliseconds since 1970.
const MIDNIGHT: u64 = 1_795_651_200_000;

/// A time of that day.
const fn at(hours: u64, minutes: u64, seconds: u64) -> u64 {
    MIDNIGHT + 1000 * (3600 * hours + 60 * minutes + seconds)
}

fn queued() -> Explanation {
    let event = |at_ms, what, reason: &str| Happening {
        at_ms,
        attempt: 0,
        what,
        reason: reason.into(),
    };
    Explanation {
        subject: "student of job digits-abc234".into(),
        state: "queued".into(),
        binding: Binding::Slots {
            need: 2,
            labels: Labels::from_iter([("gpu".to_owned(), "h100".to_owned())]),
            free: 1,
            connected: 4,
            holders: vec![Holder {
                what: "teacher of letters-xyz".into(),
                job: "letters-xyz".parse().ok(),
                slots: 2,
                until_ms: Some(at(14, 20, 0)),
            }],
        },
        reason: "it needs 2 slots with label gpu=h100; 1 is free, 4 are connected".into(),
        position: Some(Position {
            own: 3,
            own_of: 12,
            user: 2,
            users: 30,
            name: "alice".parse().expect("a name"),
        }),
        eta: Some(Eta {
            at_ms: Some(at(14, 20, 0)),
            basis: "median of the last 16 teachers of resnet18: 12 min".into(),
        }),
        decided_ms: at(14, 3, 22),
        action: "start a worker with --label gpu=h100".into(),
        events: vec![
            event(at(0, 0, 0) - 1000, What::Ready, ""),
            event(at(14, 2, 10), What::Waits, "too few slots"),
        ],
    }
}

fn text(explanation: Explanation) -> String {
    ExplanationView::from(explanation).describe(&Sheet::default())
}

#[test]
fn what_waits_is_told_why_and_until_when() {
    assert_eq!(
        text(queued()),
        "\
student of job digits-abc234 is queued.
It needs 2 slots with label gpu=h100; 1 is free, 4 are connected.
Place 3 of 12 of user alice; alice is 2nd of 30 users who wait.
Expected to start about 14:20:00Z (median of the last 16 teachers of resnet18: 12 min).
Decided at 2026-11-26 14:03:22Z. To get on: start a worker with --label gpu=h100.
Last:
  2026-11-25 23:59:59Z  ready
  14:02:10Z  waits: too few slots
"
    );
}

#[test]
fn what_is_not_known_is_not_said() {
    let bare = Explanation {
        position: None,
        eta: None,
        decided_ms: 0,
        action: String::new(),
        events: Vec::new(),
        reason: "Not its turn.".into(),
        ..queued()
    };
    assert_eq!(
        text(bare),
        "student of job digits-abc234 is queued.\nNot its turn.\n"
    );
}

#[test]
fn what_runs_is_expected_to_end() {
    let running = Explanation {
        state: "running".into(),
        binding: Binding::Runs {
            workers: vec!["w1".parse().expect("a name")],
            since_ms: at(14, 0, 0),
        },
        eta: Some(Eta {
            at_ms: Some(at(24, 1, 0)),
            basis: String::new(),
        }),
        ..queued()
    };
    let said = text(running.clone());
    assert!(
        said.contains("\nExpected to end about 2026-11-27 00:01:00Z.\n"),
        "{said}"
    );
    let unknown = Explanation {
        eta: Some(Eta {
            at_ms: None,
            basis: "no teacher of resnet18 has finished yet".into(),
        }),
        ..running
    };
    let said = text(unknown);
    let line = "\nWhen it will end is not known: no teacher of resnet18 has finished yet.\n";
    assert!(said.contains(line), "{said}");
}

#[test]
fn what_is_over_is_told_in_its_own_tense() {
    let over = |state: &str| {
        let explanation = Explanation {
            subject: "job digits-abc234".into(),
            state: state.into(),
            binding: Binding::Over,
            ..queued()
        };
        text(explanation).lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(
        ["succeeded", "failed", "cancelled", "done"].map(over),
        [
            "job digits-abc234 has succeeded.",
            "job digits-abc234 has failed.",
            "job digits-abc234 was cancelled.",
            "job digits-abc234 is done."
        ]
    );
}

#[test]
fn who_waits_alone_stands_beside_nobody() {
    let position = Position {
        own: 1,
        own_of: 1,
        user: 1,
        users: 1,
        name: "alice".parse().expect("a name"),
    };
    assert_eq!(
        place(&position),
        "Place 1 of 1 of user alice; no other user waits."
    );
}

#[test]
fn programs_read_the_coordinators_own() {
    let json = serde_json::to_value(ExplanationView::from(queued())).expect("a view is JSON");
    assert_eq!(json, serde_json::to_value(queued()).expect("JSON"));
    assert_eq!(
        (&json["binding"]["by"], &json["binding"]["labels"]["gpu"]),
        (&"slots".into(), &"h100".into()),
        "{json}"
    );
}
