//! Gangs of two processes, one of which is stopped or killed: the other one's operation ends and says which. This program
//! is both; as the one that comes to harm it is started with `rank` as its first argument.

#![allow(
    clippy::print_stdout,
    reason = "a program of its own: its processes talk over stdout, and it reports there"
)]

use std::io::{self, BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nettailor_collective::{Error, GangSettings, Limits, join};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tch::{Device, Tensor};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["rank", "0"] => be_harmed(0, None),
        ["rank", "1", address] => be_harmed(1, Some(address)),
        _ => test(),
    }
}

fn test() {
    let stopped = "was silent for 1.0 s";
    let faults = [
        (1, Signal::SIGSTOP, stopped),
        (0, Signal::SIGSTOP, stopped),
        (1, Signal::SIGKILL, stopped),
        // Its store goes with it.
        (0, Signal::SIGKILL, "is gone"),
    ];
    std::thread::scope(|scope| {
        for (victim, signal, expected) in faults {
            scope.spawn(move || {
                let error = survive(victim, signal);
                let reason = format!("rank {victim} {expected}");
                assert!(
                    matches!(&error, Error::Aborted { reason: found } if found.starts_with(&reason)),
                    "{signal} to rank {victim}: expected {reason:?}, got {error:?}"
                );
                println!("{signal} to rank {victim}: {error}");
            });
        }
    });
}

/// Is the other rank, and returns what its all-reduce ended with.
fn survive(victim: usize, signal: Signal) -> Error {
    let process = std::cell::RefCell::new(None);
    let gang = join(
        &settings(1 - victim),
        &mut |port| {
            process.replace(Some(Victim::start(&["rank", "1", &format!("localhost:{port}")])));
        },
        || {
            let mut zero = Victim::start(&["rank", "0"]);
            let port = zero.says();
            process.replace(Some(zero));
            Ok(format!("localhost:{port}"))
        },
    )
    .expect("a gang");
    let mut process = process.into_inner().expect("it was started");
    gang.barrier().expect("barrier");
    assert_eq!(process.says(), "ready");

    let blocked = gang
        .start_all_reduce_mean(vec![Tensor::from_slice(&[1.0f32])])
        .expect("start");
    let victim = process.pid();
    kill(victim, signal).expect("a signal");
    let harmed = waitpid(victim, Some(WaitPidFlag::WUNTRACED)).expect("its state");
    assert!(
        [
            WaitStatus::Stopped(victim, signal),
            WaitStatus::Signaled(victim, signal, false)
        ]
        .contains(&harmed),
        "the fault did not happen: {harmed:?}"
    );
    blocked
        .synchronize()
        .expect_err("an all-reduce without the other rank")
}

/// Joins, and waits for what comes.
fn be_harmed(rank: usize, address: Option<&str>) {
    let gang = join(&settings(rank), &mut |port| println!("{port}"), || {
        Ok(address.expect("rank 1 is told").to_owned())
    })
    .expect("a gang");
    gang.barrier().expect("barrier");
    println!("ready");
    // Ends with the process that started this one.
    io::stdin().lines().for_each(drop);
}

fn settings(rank: usize) -> GangSettings {
    GangSettings {
        gang: "stage#1".to_owned(),
        rank,
        world_size: 2,
        device: Device::Cpu,
        limits: Limits {
            beat: Duration::from_millis(50),
            silence: Duration::from_secs(1),
            ..Limits::default()
        },
        on_abort: None,
    }
}

struct Victim {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a program"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, output }
    }

    /// Its next line.
    fn says(&mut self) -> String {
        self.output.next().expect("a line").expect("a readable line")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).expect("a process id"))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // One that was killed has been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
