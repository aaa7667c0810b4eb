use nettailor_domain::ids::{Attempt, Digest, StageKey};

use super::*;

fn seat(number: u32) -> Seat {
    let attempt = Attempt {
        stage: StageKey(Digest::of(b"stage")),
        number,
    };
    Seat { attempt, rank: 0 }
}

fn begin(ledger: &Arc<Ledger>, number: u32) -> Running {
    match ledger.begin(seat(number)) {
        Begin::Started(running) => running,
        other => panic!("{other:?}"),
    }
}

fn progress(epoch: u32) -> Progress {
    Progress {
        epoch,
        ..Progress::default()
    }
}

#[test]
fn the_latest_progress_wins_and_the_report_comes_last() {
    let ledger = Arc::<Ledger>::default();
    let running = begin(&ledger, 1);
    running.progress(progress(1));
    running.progress(progress(2));
    running.log(7, "one".to_owned());
    running.log(8, "two".to_owned());
    let said = ledger.take();
    let lines = vec!["one".to_owned(), "two".to_owned()];
    assert_eq!(
        said,
        [
            FromAgent::Log {
                seat: seat(1),
                time_ms: 7,
                lines
            },
            FromAgent::Progress {
                seat: seat(1),
                progress: progress(2)
            },
        ]
    );
    running.log(9, "last".to_owned());
    running.progress(progress(3));
    running.end(Err(lost("gone")));
    let said = ledger.take();
    assert!(
        matches!(said.as_slice(), [FromAgent::Log { .. }, FromAgent::Failed { .. }]),
        "{said:?}"
    );
    assert!(ledger.take().is_empty());
}

#[test]
fn reports_are_due_again_in_every_session_until_acknowledged() {
    let ledger = Arc::<Ledger>::default();
    begin(&ledger, 1).end(Err(lost("gone")));
    let _running = begin(&ledger, 2);
    assert_eq!(ledger.take().len(), 1);
    assert_eq!(ledger.open_session(), [seat(2), seat(1)]);
    assert_eq!(ledger.take().len(), 1);
    assert!(matches!(ledger.begin(seat(1)), Begin::Known));
    assert_eq!(ledger.take().len(), 1, "asked for again, said again");
    ledger.stop(seat(1), "past its deadline");
    assert_eq!(ledger.take().len(), 1, "told to stop, it says how it ended");
    ledger.acknowledge(seat(1));
    assert_eq!(ledger.open_session(), [seat(2)]);
    assert!(ledger.take().is_empty());
}

#[test]
fn an_attempt_that_is_dropped_is_reported() {
    let ledger = Arc::<Ledger>::default();
    drop(begin(&ledger, 1));
    let said = ledger.take();
    let [FromAgent::Failed { failure, .. }] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert_eq!(failure.class, FailureClass::Internal);
}

#[test]
fn a_long_silence_costs_the_oldest_lines_and_says_so() {
    let ledger = Arc::<Ledger>::default();
    let running = begin(&ledger, 1);
    for line in 0..MAX_LINES + 5 {
        running.log(0, line.to_string());
    }
    let batches: Vec<Vec<String>> = ledger
        .take()
        .into_iter()
        .map(|said| match said {
            FromAgent::Log { lines, .. } => lines,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(batches.iter().all(|lines| lines.len() <= BATCH_LINES));
    let lines = batches.concat();
    assert_eq!(lines.len(), MAX_LINES + 1);
    assert!(lines[0].starts_with("(5 older lines"), "{}", lines[0]);
    assert_eq!((lines[1].as_str(), lines[MAX_LINES].as_str()), ("5", "2004"));
}

#[tokio::test]
async fn a_stop_arrives_once_with_its_reason() {
    let ledger = Arc::<Ledger>::default();
    let mut running = begin(&ledger, 1);
    ledger.stop(seat(1), "cancelled");
    ledger.stop(seat(1), "again");
    assert_eq!(running.stopped().await, "cancelled");
    ledger.stop_all("leaving");
    let again = futures::FutureExt::now_or_never(running.stopped());
    assert_eq!(again, None);
}

#[tokio::test]
async fn a_drained_ledger_starts_nothing_and_settles_when_all_is_acknowledged() {
    let ledger = Arc::<Ledger>::default();
    let running = begin(&ledger, 1);
    ledger.drain();
    assert!(matches!(ledger.begin(seat(2)), Begin::Draining));
    assert!(futures::FutureExt::now_or_never(ledger.idle()).is_none());
    running.end(Err(lost("gone")));
    ledger.idle().await;
    assert!(futures::FutureExt::now_or_never(ledger.settled()).is_none());
    ledger.acknowledge(seat(1));
    ledger.acknowledge(seat(2));
    ledger.settled().await;
}
