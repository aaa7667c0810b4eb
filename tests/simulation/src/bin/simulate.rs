//! Simulates histories for some time, or for ever: seeds in order, until one breaks a promise.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nettailor_simulation::{Fired, describe, run};

/// Plans between two looks at the clock.
const ROUND: u64 = 500;

#[derive(Parser)]
#[command(about = "Simulates histories of a cluster until one breaks a promise")]
struct Args {
    /// For so many seconds; 0 for ever.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
}

#[allow(
    clippy::disallowed_methods,
    reason = "how long to go on is not part of what is simulated"
)]
#[allow(clippy::print_stdout, reason = "it is what this program is for")]
fn main() -> ExitCode {
    let Args { seconds, from } = Args::parse();
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut seed, mut requests, mut fired) = (from, 0, Fired::new());
    while seconds == 0 || start.elapsed() < Duration::from_secs(seconds) {
        let suite = run(seed..seed + ROUND, threads, || ());
        seed += ROUND;
        requests += suite.requests;
        for (fault, count) in suite.fired {
            *fired.entry(fault).or_default() += count;
        }
        if let Some((plan, error)) = suite.broken {
            println!("{}", describe(&plan, &error));
            return ExitCode::FAILURE;
        }
        println!("seeds {from} to {}: {requests} requests", seed - 1);
    }
    for (fault, count) in fired {
        println!("{count:>10}  {fault}");
    }
    ExitCode::SUCCESS
}
