//! How the ranks of a scripted stage meet and agree: over one TCP connection from each to rank 0.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nettailor_domain::ids::Digest;
use nettailor_domain::session::RANK_SILENCE;
use nettailor_domain::trainer::{Assignment, Failure, FailureClass, TrainerCommand};

/// One rank's connections.
pub(crate) struct Gang {
    rank: u32,
    /// Rank 0's to all others; another rank's to rank 0.
    lines: Vec<BufReader<TcpStream>>,
}

impl Gang {
    /// Meets the other ranks. Rank 0 waits for them at a port that `meeting` is told; its agent ends the wait if one never
    /// comes.
    pub(crate) fn join(assignment: &Assignment, meeting: impl FnOnce(u16)) -> Result<Self, Failure> {
        let (rank, others) = (assignment.rank, assignment.world_size as usize - 1);
        let name = &assignment.gang;
        let mut lines = Vec::new();
        if others > 0 && rank == 0 {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(lost)?;
            meeting(listener.local_addr().map_err(lost)?.port());
            while lines.len() < others {
                let mut line = reader(listener.accept().map_err(lost)?.0)?;
                // Whoever is of another attempt, or does not say, is not waited for.
                if read(&mut line).is_ok_and(|said| said == *name) {
                    lines.push(line);
                }
            }
        } else if others > 0 {
            let mut told = String::new();
            std::io::stdin().lock().read_line(&mut told).map_err(lost)?;
            let TrainerCommand::Meet { address } = serde_json::from_str(&told).map_err(lost)?;
            let mut line = reader(TcpStream::connect(address).map_err(lost)?)?;
            say(&mut line, name)?;
            lines.push(line);
        }
        Ok(Self { rank, lines })
    }

    /// Waits until all ranks have taken this step, and fails unless they came to the same state.
    pub(crate) fn agree(&mut self, step: u64, state: Digest) -> Result<(), Failure> {
        let own = format!("{step} {state}");
        if self.rank != 0 {
            for line in &mut self.lines {
                say(line, &own)?;
            }
        }
        for line in &mut self.lines {
            let other = read(line)?;
            if other != own {
                return Err(Failure {
                    class: FailureClass::Internal,
                    message: format!("the ranks do not agree: {other:?} and {own:?}"),
                });
            }
        }
        if self.rank == 0 {
            for line in &mut self.lines {
                say(line, &own)?;
            }
        }
        Ok(())
    }
}

fn reader(stream: TcpStream) -> Result<BufReader<TcpStream>, Failure> {
    stream.set_nodelay(true).map_err(lost)?;
    stream.set_read_timeout(Some(RANK_SILENCE)).map_err(lost)?;
    Ok(BufReader::new(stream))
}

fn say(line: &mut BufReader<TcpStream>, text: &str) -> Result<(), Failure> {
    let text = format!("{text}\n");
    line.get_mut().write_all(text.as_bytes()).map_err(lost)
}

fn read(line: &mut BufReader<TcpStream>) -> Result<String, Failure> {
    let mut text = String::new();
    if line.read_line(&mut text).map_err(lost)? == 0 {
        return Err(lost("another rank is gone"));
    }
    Ok(text.trim_end().to_owned())
}

fn lost(error: impl std::fmt::Display) -> Failure {
    Failure {
        class: FailureClass::Lost,
        message: format!("the gang was aborted: {error}"),
    }
}
