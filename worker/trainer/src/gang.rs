//! How a trainer joins its gang.

use std::io::BufRead;
use std::time::Duration;

use nettailor_collective::{Collective, GangSettings, Limits};
use nettailor_domain::session::RANK_SILENCE;
use nettailor_domain::trainer::{Assignment, Failure, FailureClass, TrainerCommand};
use tch::Device;

/// How long a rank waits for the others: they may have a large data set to fetch. The coordinator ends an attempt of which a
/// rank fails or its worker is gone.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Why a trainer has no gang.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An assignment that cannot be.
    #[error("the assignment gives rank {rank} in a gang of {world_size}; ranks count from 0")]
    NoSuchRank {
        /// The rank.
        rank: u32,
        /// Ranks in the gang.
        world_size: u32,
    },
    /// The ranks did not come together.
    #[error(transparent)]
    Collective(#[from] nettailor_collective::Error),
    /// The agent does not say where to go.
    #[error(
        "standard input ended before it said where the gang meets; a rank other than 0 is told by its agent"
    )]
    Untold,
    /// Something else came.
    #[error("expected where the gang meets on standard input, as one line of JSON, found `{line}`")]
    NoCommand {
        /// What came.
        line: String,
        /// Why it is none.
        #[source]
        source: serde_json::Error,
    },
    /// Standard input cannot be read.
    #[error("standard input cannot be read")]
    Input(#[from] std::io::Error),
}

impl Error {
    /// As the agent is told.
    pub fn failure(&self) -> Failure {
        let class = match self {
            Self::Collective(_) | Self::Untold | Self::Input(_) => FailureClass::Lost,
            Self::NoSuchRank { .. } | Self::NoCommand { .. } => FailureClass::Internal,
        };
        let cause = std::error::Error::source(self).map_or_else(String::new, |cause| format!(": {cause}"));
        Failure {
            class,
            message: format!("{self}{cause}"),
        }
    }
}

/// The gang of an assignment, with this process as one of its ranks. Rank 0 says in `meeting` at which port it waits;
/// others are told on standard input where that is.
/// `on_abort` is called on another thread when a rank is lost.
pub fn join(
    assignment: &Assignment,
    device: Device,
    meeting: &mut dyn FnMut(u16),
    on_abort: fn(&str),
) -> Result<Box<dyn Collective>, Error> {
    let (rank, world_size) = (assignment.rank, assignment.world_size);
    if rank >= world_size {
        return Err(Error::NoSuchRank { rank, world_size });
    }
    let settings = GangSettings {
        gang: assignment.gang.clone(),
        rank: rank as usize,
        world_size: world_size as usize,
        device,
        limits: Limits {
            silence: RANK_SILENCE,
            join: PATIENCE,
            ..Limits::default()
        },
        on_abort: Some(on_abort),
    };
    let told = match rank {
        0 => String::new(),
        _ => meeting_place(&mut std::io::stdin().lock())?,
    };
    Ok(nettailor_collective::join(&settings, meeting, || Ok(told))?)
}

/// Waits to be told where rank 0 is: `host:port`.
pub fn meeting_place(commands: &mut dyn BufRead) -> Result<String, Error> {
    let mut line = String::new();
    if commands.read_line(&mut line)? == 0 {
        return Err(Error::Untold);
    }
    match serde_json::from_str(line.trim_end()) {
        Ok(TrainerCommand::Meet { address }) => Ok(address),
        Err(source) => Err(Error::NoCommand {
            line: line.trim_end().to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_where_the_gang_meets() {
        let mut lines = &b"{\"command\":\"meet\",\"address\":\"10.0.0.7:4711\"}\nmore\n"[..];
        assert_eq!(meeting_place(&mut lines).unwrap(), "10.0.0.7:4711");
        assert_eq!(lines, b"more\n", "what follows is left to be read");
    }

    #[test]
    fn silence_and_nonsense_are_told_apart() {
        let error = meeting_place(&mut &b""[..]).unwrap_err();
        assert_eq!(error.failure().class, FailureClass::Lost);
        let error = meeting_place(&mut &b"hello\n"[..]).unwrap_err();
        assert_eq!(error.failure().class, FailureClass::Internal);
        assert!(error.failure().message.contains("`hello`"), "{error}");
    }
}
