//! The only module that reads clocks and draws random numbers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nettailor_artifacts::Incarnation;
use nettailor_domain::ids::{JobId, TaskName};
use nettailor_scheduler::event::Now;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What a round counts as listened at most: if more has passed since the one before, the process stood still, or something in
/// it did, and messages were not read that had come.
const LISTENED: Duration = Duration::from_millis(250);

/// The process's time.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Elapsed time of the latest round, earlier processes' time included.
    latest: Duration,
    listened: Duration,
    /// Time of earlier processes.
    before: Duration,
}

#[allow(clippy::disallowed_methods, reason = "the crate's clock")]
impl Clock {
    /// A clock that goes on now from where an earlier process left it.
    pub(crate) fn start(before: Duration) -> Self {
        Self {
            started: Instant::now(),
            latest: before,
            listened: before,
            before,
        }
    }

    /// Time since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.before.saturating_add(self.started.elapsed())
    }

    /// The time of a round, in which messages that have come are read.
    pub(crate) fn round(&mut self) -> Now {
        let elapsed = self.elapsed();
        self.listened += LISTENED.min(elapsed - self.latest);
        self.latest = elapsed;
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Now {
            elapsed,
            listened: self.listened,
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
    fn a_round_that_comes_late_was_not_listened_to_all_the_time() {
        let late_by = Duration::from_secs(10);
        let mut clock = Clock::start(Duration::ZERO);
        clock.started -= late_by;
        let late = clock.round();
        assert!(late.elapsed >= late_by);
        assert_eq!(late.listened, LISTENED);
        let next = clock.round();
        let passed = next.elapsed - late.elapsed;
        assert_eq!(next.listened - late.listened, passed.min(LISTENED));
    }

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
