//! The only module that reads clocks and draws random numbers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nettailor_artifacts::Incarnation;
use nettailor_domain::ids::{JobId, TaskName};
use nettailor_scheduler::event::Now;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The process's time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    /// Time of earlier processes.
    before: Duration,
}

#[allow(clippy::disallowed_methods, reason = "the crate's clock")]
impl Clock {
    /// A clock that goes on now from where an earlier process left it.
    pub(crate) fn start(before: Duration) -> Self {
        Self {
            started: Instant::now(),
            before,
        }
    }

    /// The time of an event.
    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Now {
            elapsed: self.before.saturating_add(self.started.elapsed()),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// An incarnation that no other state directory has.
pub(crate) fn draw_incarnation() -> Incarnation {
    Incarnation::new(StdRng::from_os_rng().random())
}

/// Characters of a job id's end: base32 without what is easily misread (RFC 4648's letters, in lower case).
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters drawn for a job id: 2^30 possibilities per task.
const DRAWN: usize = 6;
/// Longest id.
const LONGEST: usize = 63;

/// Draws job ids.
#[derive(Debug)]
pub(crate) struct JobIds {
    random: StdRng,
}

impl JobIds {
    /// Ids that differ from run to run.
    pub(crate) fn from_system() -> Self {
        Self {
            random: StdRng::from_os_rng(),
        }
    }

    /// `<task>-<six characters>`; a long task name is cut.
    pub(crate) fn draw(&mut self, task: &TaskName) -> JobId {
        let end: String = (0..DRAWN)
            .map(|_| char::from(ALPHABET[self.random.random_range(0..32)]))
            .collect();
        let task = task.as_str();
        let start = &task[..task.len().min(LONGEST - DRAWN - 1)];
        format!("{start}-{end}")
            .parse()
            .expect("a task name's start, a dash and letters make an id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_task_and_stay_within_bounds() {
        let mut ids = JobIds {
            random: StdRng::seed_from_u64(1),
        };
        let id = ids.draw(&"digits".parse().unwrap());
        let (task, end) = id.as_str().split_once('-').unwrap();
        assert_eq!(task, "digits");
        assert!(
            end.len() == 6 && end.bytes().all(|c| ALPHABET.contains(&c)),
            "{id}"
        );
        assert_ne!(ids.draw(&"digits".parse().unwrap()), id);
        let longest: TaskName = "x".repeat(63).parse().unwrap();
        assert_eq!(ids.draw(&longest).as_str().len(), 63);
    }
}
