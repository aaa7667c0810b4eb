//! Heartbeats: how a rank shows that it lives, and notices that another one does not.
//!
//! Two threads per rank. The *pulse* writes this rank's word into the store and reads the others', once a beat; a call to a
//! store whose node was stopped or cut off blocks for ever. The *watch* calls nothing that blocks and looks whether the pulse
//! still gets round. Silence is counted in beats of one's own, so a process that was stopped itself does not blame the
//! others when it goes on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use cxx::UniquePtr;

use crate::Error;
use crate::bridge::Store;
use crate::gate::Aborted;
use crate::rendezvous::{Member, milliseconds};

/// Starts both threads. `said` is dropped when this rank's last word has been said, and, on rank 0, heard.
pub(crate) fn start(
    member: &Arc<Member>,
    store: UniquePtr<Store>,
    said: mpsc::Sender<()>,
) -> Result<(), Error> {
    let pulse = Pulse {
        member: member.clone(),
        store,
        peers: (0..member.world_size).map(|_| Peer::Absent).collect(),
    };
    member.spawn("gang-pulse", move || {
        pulse.run();
        drop(said);
    })?;
    let watched = member.clone();
    member.spawn("gang-watch", move || watch(&watched))
}

/// What a rank says of itself in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// It lives; the number grows.
    Beat(u64),
    /// It ended the gang, and why.
    Aborted(String),
    /// It is done, as all the others are.
    Left,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beat(count) => write!(f, "beat {count}"),
            Self::Aborted(reason) => write!(f, "aborted {reason}"),
            Self::Left => f.write_str("left"),
        }
    }
}

impl Word {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some(("beat", count)) => count.parse().ok().map(Self::Beat),
            Some(("aborted", reason)) => Some(Self::Aborted(reason.to_owned())),
            None if text == "left" => Some(Self::Left),
            _ => None,
        }
    }
}

/// What this rank knows of another.
enum Peer {
    /// Not there yet.
    Absent,
    /// Its last word, and for how many of our beats it has been the last.
    Present { word: Word, unchanged: u32 },
}

struct Pulse {
    member: Arc<Member>,
    store: UniquePtr<Store>,
    peers: Vec<Peer>,
}

impl Pulse {
    fn run(mut self) {
        let last = self.beat();
        // Where the store is gone there is nobody left to tell; those who have waited long enough go, too.
        let _ = self.say(&last).and_then(|()| self.linger(&last));
    }

    /// Beats until the gang is over, and returns what is left to say.
    fn beat(&mut self) -> Word {
        let member = self.member.clone();
        let mut count = 0;
        loop {
            match self.round(count) {
                Ok(()) => {}
                // Rank 0 had no more use for its store, nor has anyone else.
                Err(_) if matches!(self.peers[0], Peer::Present { word: Word::Left, .. }) => {
                    member.released.store(true, Ordering::Relaxed);
                }
                Err(reason) => member.gate.abort(&reason),
            }
            count += 1;
            member.rounds.store(count, Ordering::Relaxed);
            match pause(&member) {
                Ok(true) => {}
                Ok(false) => return Word::Left,
                Err(Aborted(reason)) => return Word::Aborted(reason),
            }
        }
    }

    /// Says that this rank lives and hears of the others. An error is the reason why the gang is over.
    fn round(&mut self, count: u64) -> Result<(), String> {
        #[cfg(test)]
        if self.member.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.say(&Word::Beat(count)).map_err(gone)?;
        for rank in self.member.peers() {
            let Some(heard) = self.hear(rank).map_err(gone)? else {
                continue;
            };
            if !self.member.present[rank].swap(true, Ordering::Relaxed) {
                self.member.gate.knock();
            }
            if let Word::Aborted(reason) = heard {
                return Err(reason);
            }
            let unchanged = match &self.peers[rank] {
                Peer::Present { word, unchanged } if *word == heard && heard != Word::Left => unchanged + 1,
                _ => 0,
            };
            self.peers[rank] = Peer::Present {
                word: heard,
                unchanged,
            };
            if unchanged >= self.member.limits.patience() {
                return Err(silent(&self.member, rank));
            }
        }
        Ok(())
    }

    fn word_of(&self, rank: usize) -> String {
        self.member.key(&format!("word/{rank}"))
    }

    fn say(&self, word: &Word) -> Result<(), cxx::Exception> {
        let key = self.word_of(self.member.rank);
        self.store.set(&key, word.to_string().as_bytes())
    }

    fn hear(&self, rank: usize) -> Result<Option<Word>, cxx::Exception> {
        let key = self.word_of(rank);
        if matches!(self.peers[rank], Peer::Absent) && !self.store.has(&key)? {
            return Ok(None);
        }
        let bytes = self.store.get(&key, milliseconds(self.member.limits.silence))?;
        Ok(Word::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Waits until the other ranks that live have come here too. After a goodbye that gives them time to end the operation
    /// that all have just ended; after an abort rank 0 keeps its store up until they have read why.
    fn linger(&self, last: &Word) -> Result<(), cxx::Exception> {
        let key = |rank: usize| self.member.key(&format!("end/{rank}"));
        self.store.set(&key(self.member.rank), &[])?;
        if *last != Word::Left && self.member.rank != 0 {
            return Ok(());
        }
        // Where another rank blames a silent one, rank 0 need not have counted to the end.
        let suspect = self.member.limits.patience() / 2;
        let mut keys = Vec::new();
        for rank in self.member.peers() {
            let alive = match &self.peers[rank] {
                // It may have come since the last beat.
                Peer::Absent => self.store.has(&self.word_of(rank))?,
                Peer::Present { unchanged, .. } => *unchanged <= suspect,
            };
            if alive {
                keys.push(key(rank));
            }
        }
        self.store.wait(&keys, milliseconds(self.member.limits.silence))
    }
}

/// Whether the gang goes on, a beat later.
fn pause(member: &Member) -> Result<bool, Aborted> {
    let released = || member.released.load(Ordering::Relaxed).then_some(());
    Ok(member.gate.wait_at_most(member.limits.beat, released)?.is_none())
}

fn watch(member: &Member) {
    let (mut seen, mut unchanged) = (0, 0);
    let ended = loop {
        match pause(member) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(Aborted(reason)) => break Some(reason),
        }
        let rounds = member.rounds.load(Ordering::Relaxed);
        if rounds != seen {
            (seen, unchanged) = (rounds, 0);
            continue;
        }
        unchanged += 1;
        if unchanged >= member.limits.patience() {
            member
                .gate
                .abort(&format!("{}: its store does not answer", silent(member, 0)));
        }
    };
    if let (Some(reason), Some(tell)) = (ended, member.on_abort) {
        tell(&reason);
    }
}

fn silent(member: &Member, rank: usize) -> String {
    format!(
        "rank {rank} was silent for {:.1} s",
        member.limits.silence.as_secs_f64()
    )
}

fn gone(error: cxx::Exception) -> String {
    format!("rank 0 is gone: its store does not answer ({})", error.what())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written() {
        for word in [
            Word::Beat(17),
            Word::Aborted("rank 1 was silent for 3.0 s".to_owned()),
            Word::Aborted(String::new()),
            Word::Left,
        ] {
            assert_eq!(Word::parse(&word.to_string()), Some(word));
        }
        assert_eq!(Word::parse("beat one"), None);
    }
}
