use std::time::Duration;

use super::*;
use crate::conformance::Muster;
use crate::testing::{Meeting, PATIENT};

fn host(gang: &str) -> Rendezvous {
    Rendezvous::host(Member::new(gang, 0, 2, PATIENT)).expect("a store")
}

fn reason(result: Result<impl Sized, Error>) -> String {
    match result {
        Err(Error::Join { reason, .. }) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it joined"),
    }
}

#[test]
fn an_older_attempt_is_turned_away() {
    let new = host("stage#2");
    let old = Member::new("stage#1", 1, 2, PATIENT);
    let turned_away = reason(Rendezvous::join(old, &format!("localhost:{}", new.port())));
    assert!(
        turned_away.contains("gang stage#2 of 2, not of gang stage#1 of 2"),
        "{turned_away}"
    );
}

#[test]
fn a_rank_exists_once() {
    let zero = host("stage#1");
    let address = format!("localhost:{}", zero.port());
    let one = Rendezvous::join(Member::new("stage#1", 1, 2, PATIENT), &address).expect("rank 1");
    let again = reason(Rendezvous::join(Member::new("stage#1", 1, 2, PATIENT), &address));
    assert!(again.contains("rank 1 is taken"), "{again}");
    drop(one);
}

#[test]
fn who_does_not_come_is_named() {
    let limits = Limits {
        join: Duration::from_millis(300),
        ..PATIENT
    };
    // On a busy machine the time may be over before the store is open; it is the others that are missing all the same.
    let alone = Rendezvous::host(Member::new("stage#1", 0, 3, limits));
    let late = reason(alone.and_then(|alone| alone.own_address()));
    assert!(late.contains("after 0.3 s still without rank 1, 2"), "{late}");
}

#[test]
fn an_address_that_leads_nowhere_is_named() {
    let nowhere = reason(Rendezvous::join(
        Member::new("stage#1", 1, 2, PATIENT),
        "no port here",
    ));
    assert!(nowhere.contains("\"no port here\" (host:port)"), "{nowhere}");
}

#[test]
fn on_one_node_all_ranks_meet_on_loopback() {
    let meeting = Meeting::new(2, PATIENT);
    let both = Muster::new(2);
    std::thread::scope(|scope| {
        for rank in 0..2 {
            let (meeting, both) = (&meeting, &both);
            scope.spawn(move || {
                let rendezvous = meeting.rendezvous(rank);
                let address = rendezvous.own_address().expect("an address");
                both.wait();
                assert!(address.is_loopback(), "rank {rank}: {address}");
                rendezvous.release();
            });
        }
    });
}
