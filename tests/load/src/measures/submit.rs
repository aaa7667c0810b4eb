//! Large files, and small ones on idle workers.

use clap::Args;
use nettailor_domain::stage::StageKind;
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use prost::Message as _;
use serde::Serialize;

use crate::ambient::now;
use crate::fleet::{Conduct, Fleet, Settings, What};
use crate::samples::{Quantiles, Samples, seconds};
use crate::site::{STAGES_PER_JOB, Site};

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct Submit {
    /// Tasks of the large file; 0 for none. Half as many are tried where it is refused, and so on
    #[arg(long, default_value_t = 50_000)]
    pub tasks: usize,
    /// Largest answer that the client takes, MiB; the product's clients take 16
    #[arg(long, default_value_t = MAX_MESSAGE_BYTES >> 20)]
    pub answer_mib: usize,
    /// Files of one task, one after the other; 0 for none
    #[arg(long, default_value_t = 300)]
    pub singles: usize,
    /// Idle workers, of one slot each, for these
    #[arg(long, default_value_t = 1000)]
    pub workers: usize,
}

/// Figures.
#[derive(Debug, Serialize)]
pub struct Submitted {
    /// Files, the largest first; the last one was accepted.
    pub files: Vec<Attempt>,
    /// From the request of one task to its answer.
    pub answer: Quantiles,
    /// From the request of one task to the assignment of its first stage at a worker.
    pub assigned: Quantiles,
}

/// One large file.
#[derive(Debug, Serialize)]
pub struct Attempt {
    /// Tasks in it.
    pub tasks: usize,
    /// Until its answer.
    pub seconds: f64,
    /// Bytes of the request.
    pub request_bytes: usize,
    /// Bytes of the answer; 0 where there is none.
    pub answer_bytes: usize,
    /// Why it was refused, or its answer cannot be taken.
    pub refused: Option<String>,
}

/// Measures it.
///
/// # Errors
/// Where the coordinator does not do its part.
pub async fn submit(site: &Site, asked: Submit) -> anyhow::Result<Submitted> {
    let (answer, assigned) = singles(site, asked).await?;
    let mut files = Vec::new();
    let mut tasks = asked.tasks;
    while tasks > 0 {
        let attempt = large(
            site,
            &format!("large{}", files.len()),
            tasks,
            asked.answer_mib << 20,
        )
        .await;
        let accepted = attempt.refused.is_none();
        files.push(attempt);
        if accepted {
            break;
        }
        tasks /= 2;
    }
    Ok(Submitted {
        files,
        answer,
        assigned,
    })
}

async fn large(site: &Site, name: &str, tasks: usize, largest_answer: usize) -> Attempt {
    let file = site.submission(name, 0, tasks);
    let request_bytes = file.encoded_len();
    let begun = now();
    let answer = site.jobs_within(largest_answer).submit(file).await;
    let seconds = seconds(begun.elapsed());
    let (answer_bytes, refused) = match answer {
        Ok(answer) => (answer.get_ref().encoded_len(), None),
        Err(status) => (0, Some(format!("{:?}: {}", status.code(), status.message()))),
    };
    Attempt {
        tasks,
        seconds,
        request_bytes,
        answer_bytes,
        refused,
    }
}

/// Jobs one after the other: the next is submitted when the one before is done.
async fn singles(site: &Site, asked: Submit) -> anyhow::Result<(Quantiles, Quantiles)> {
    let (mut answers, mut assignments) = (Samples::default(), Samples::default());
    let settings = Settings {
        workers: if asked.singles > 0 { asked.workers } else { 0 },
        slots: 1,
        conduct: Conduct::AtOnce,
    };
    let mut fleet = Fleet::start(site, settings)?;
    fleet.attached().await?;
    for number in 0..asked.singles {
        let file = site.submission("single", number, 1);
        let begun = now();
        site.jobs().submit(file).await?;
        answers.add(begun.elapsed());
        let mut done = 0;
        while done < STAGES_PER_JOB {
            let seen = fleet.next().await?;
            match seen.what {
                What::Assigned {
                    kind: StageKind::Teacher,
                    ..
                } => assignments.add(seen.at - begun),
                What::Acknowledged(_) => done += 1,
                _ => {}
            }
        }
    }
    let (answer, assigned) = (answers.quantiles(), assignments.quantiles());
    Ok((answer, assigned))
}
