//! Plans: what will happen, written down before it does.

use std::fmt;
use std::str::FromStr;

use crate::chance::Chance;

/// A history to live through. Everything in it follows from this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where delays come from.
    pub seed: u64,
    /// Longest delay of a message that nothing holds up, milliseconds.
    pub latency: u32,
    /// Trainers break. If not, the first fault ends a job: nothing else may be taken for one.
    pub faults: bool,
    /// Trainers hang. Then stages have short deadlines.
    pub hangs: bool,
    /// In order.
    pub steps: Vec<Step>,
}

/// One thing that is done from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub act: Act,
    /// To whom or what: taken modulo what there is.
    pub of: u32,
    /// How: what it means depends on the act.
    pub how: u32,
}

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What is done from outside.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Act { $($(#[$doc])* $name,)* }

        impl Act {
            fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }
        }
    };
}

acts! {
    /// Time passes: `how` milliseconds.
    Pass = "pass",
    /// A user submits jobs.
    Submit = "submit",
    /// A user cancels a job.
    Cancel = "cancel",
    /// A user lets a job rest, for four times `how` milliseconds.
    Pause = "pause",
    /// A user ends a job's rest.
    Resume = "resume",
    /// A user gives a job another priority.
    Update = "update",
    /// A user has the work of a job done once more.
    Retry = "retry",
    /// A user takes a worker out of use.
    Cordon = "cordon",
    /// A user takes a worker back into use.
    Uncordon = "uncordon",
    /// A trainer breaks.
    Fail = "fail",
    /// A trainer does nothing any more.
    Hang = "hang",
    /// A trainer does not stop when told to, for `how` milliseconds.
    Deafen = "deafen",
    /// An agent dies with all it runs and remembers, and is started again.
    Crash = "crash",
    /// An agent leaves once it is done, and is started again.
    Drain = "drain",
    /// A stream breaks: what is on its way for too long is lost.
    Break = "break",
    /// A stream goes silent without breaking: both ways, or one.
    Mute = "mute",
    /// An agent opens a session while its old one still speaks.
    Overlap = "overlap",
    /// A stream is held up for `how` milliseconds.
    Lag = "lag",
    /// An agent says again what it has said in the past.
    Repeat = "repeat",
    /// Commits take `how` milliseconds, for some time.
    Slow = "slow",
    /// The next commit fails, and nothing of it is there.
    FailBefore = "fail-before",
    /// The next commit fails, and all of it is there.
    FailAfter = "fail-after",
    /// The next commit fails between writing and flushing.
    FailBetween = "fail-between",
    /// The coordinator dies.
    Kill = "kill",
    /// The coordinator's machine loses power: what was not flushed is gone.
    PowerLoss = "power-loss",
    /// The coordinator does nothing for `how` milliseconds: what comes meanwhile waits.
    Stall = "stall",
    /// The artifact store does not answer for `how` milliseconds.
    Away = "away",
    /// The next checkpoints that are looked up are not found.
    Unfounded = "unfounded",
}

/// Kinds of acts that occur in a plan or do not, with how often they do.
const FAMILIES: [&[(Act, u32)]; 17] = [
    &[(Act::Cancel, 2)],
    &[(Act::Pause, 3), (Act::Resume, 1), (Act::Update, 1)],
    &[(Act::Retry, 2)],
    &[(Act::Cordon, 2), (Act::Uncordon, 1)],
    &[(Act::Fail, 5)],
    &[(Act::Hang, 1)],
    &[(Act::Deafen, 3)],
    &[(Act::Crash, 2)],
    &[(Act::Drain, 1)],
    &[(Act::Break, 3)],
    &[(Act::Mute, 2)],
    &[(Act::Overlap, 3), (Act::Lag, 3)],
    &[(Act::Repeat, 3)],
    &[(Act::Slow, 3)],
    &[(Act::Stall, 2)],
    &[
        (Act::FailBefore, 1),
        (Act::FailAfter, 1),
        (Act::FailBetween, 1),
        (Act::Kill, 1),
        (Act::PowerLoss, 1),
    ],
    &[(Act::Away, 2), (Act::Unfounded, 2)],
];

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut weights = vec![(Act::Pass, 18), (Act::Submit, 4)];
        for family in FAMILIES {
            if chance.below(5) < 2 {
                weights.extend(family);
            }
        }
        let latency = [5, 50, 1000][chance.below(3) as usize];
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let count = 10 + chance.below(70);
        let steps = (0..count).map(|_| {
            let mut at = chance.below(total);
            let act = weights.iter().find_map(|(act, weight)| {
                let found = at < *weight;
                at = at.wrapping_sub(*weight);
                found.then_some(*act)
            });
            let longest = [300, 3000, 3000, 15_000][chance.below(4) as usize];
            Step {
                act: act.unwrap_or(Act::Pass),
                of: chance.below(1000),
                how: chance.below(longest),
            }
        });
        let steps: Vec<Step> = steps.collect();
        let has = |act: Act| weights.iter().any(|(other, _)| *other == act);
        Self {
            seed,
            latency,
            faults: has(Act::Fail) || has(Act::Hang),
            hangs: has(Act::Hang),
            steps,
        }
    }

    /// The same with other steps.
    pub fn with(&self, steps: Vec<Step>) -> Self {
        Self {
            steps,
            ..self.clone()
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, latency) = (self.seed, self.latency);
        let (faults, hangs) = (u8::from(self.faults), u8::from(self.hangs));
        writeln!(f, "plan {seed} {latency} {faults} {hangs}")?;
        for Step { act, of, how } in &self.steps {
            writeln!(f, "{} {of} {how}", act.word())?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    /// Reads what [`Display`](fmt::Display) writes; lines that begin with `#` are left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let first = lines.next().unwrap_or_default();
        let wrong = |line: &str| format!("`{line}` is not a line of a plan");
        let numbers = |line: &str| -> Result<Vec<u64>, String> {
            let words = line.split_whitespace().skip(1);
            words.map(|word| word.parse().map_err(|_| wrong(line))).collect()
        };
        let head = match (first.starts_with("plan "), numbers(first)?.as_slice()) {
            (true, &[seed, latency, faults, hangs]) => Self {
                seed,
                latency: latency as u32,
                faults: faults > 0,
                hangs: hangs > 0,
                steps: Vec::new(),
            },
            _ => return Err(wrong(first)),
        };
        let steps = lines.map(|line| {
            let word = line.split_whitespace().next().unwrap_or_default();
            match (Act::of_word(word), numbers(line)?.as_slice()) {
                (Some(act), &[of, how]) => Ok(Step {
                    act,
                    of: of as u32,
                    how: how as u32,
                }),
                _ => Err(wrong(line)),
            }
        });
        Ok(head.with(steps.collect::<Result<_, String>>()?))
    }
}
