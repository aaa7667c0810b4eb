//! The teacher's step by several processes of this machine. The first starts the others and tells them what it is told.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};
use nettailor_collective::{Collective, GangSettings, Limits, Solo, join};
use nettailor_trainer::device::Layout;

use crate::learners::{Work, teacher};

/// How the processes work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Together {
    /// As a gang.
    Gang,
    /// Not at all: each does its part of the batch and tells nobody. What this takes less is what the gang's exchange costs.
    Apart,
}

/// What each process is told on its command line.
pub(crate) struct Rank {
    pub(crate) rank: u32,
    pub(crate) ranks: u32,
    /// Images of the whole batch.
    pub(crate) batch: u32,
    pub(crate) side: u32,
    pub(crate) together: Together,
}

/// Is rank `rank`, and as rank 0 starts the others with `arguments` followed by rank and address.
pub(crate) fn run(
    layout: Layout,
    rank: &Rank,
    arguments: &[&str],
    address: Option<&str>,
) -> anyhow::Result<()> {
    let others = RefCell::new(Vec::new());
    let start = |port: u16| {
        others
            .borrow_mut()
            .extend((1..rank.ranks).map(|other| Other::start(arguments, other, port)))
    };
    let gang: Box<dyn Collective> = match rank.together {
        Together::Apart => {
            if rank.rank == 0 {
                start(0);
            }
            Box::new(Solo::new())
        }
        Together::Gang => {
            let settings = GangSettings {
                gang: "bench#1".to_owned(),
                rank: rank.rank as usize,
                world_size: rank.ranks as usize,
                device: layout.device,
                limits: Limits::default(),
                on_abort: None,
            };
            let told = || Ok(address.unwrap_or_default().to_owned());
            join(&settings, &mut |port| start(port), told)?
        }
    };
    let part = rank.batch * (rank.rank + 1) / rank.ranks - rank.batch * rank.rank / rank.ranks;
    let whole = match rank.together {
        Together::Gang => rank.batch,
        Together::Apart => part,
    };
    let work = Work::new(layout, rank.side, part, whole)?;
    let mut others = others
        .into_inner()
        .into_iter()
        .collect::<anyhow::Result<Vec<Other>>>()?;
    teacher(layout, rank.side, &work, gang.as_ref(), &mut others)?;
    // Nothing more to do, for anybody.
    others.iter_mut().for_each(|other| other.told = None);
    gang.leave()?;
    for mut other in others {
        ensure!(other.process.wait()?.success(), "another rank failed");
    }
    Ok(())
}

/// Another rank's process.
pub(crate) struct Other {
    process: Child,
    told: Option<ChildStdin>,
    says: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(arguments: &[&str], rank: u32, port: u16) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .args([rank.to_string(), format!("localhost:{port}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let told = process.stdin.take();
        let says = BufReader::new(process.stdout.take().context("piped")?).lines();
        Ok(Self { process, told, says })
    }

    /// Passes on how often it is to do it.
    pub(crate) fn tell(&mut self, count: u32) -> anyhow::Result<()> {
        let told = self.told.as_mut().context("it was told that there is no more")?;
        Ok(writeln!(told, "{count}")?)
    }

    /// Waits for its answer.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
        self.says.next().context("another rank ended")??;
        Ok(())
    }
}
