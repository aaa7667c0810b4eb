//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueHint};

use crate::commands::{
    backbone, completions, dataset, explain, jobs, registry, run, submit, users, validate, workers,
};
use crate::output::Format;

const EXIT_CODES: &str = "\
Exit codes:
  0 done             3 not found             6 coordinator unavailable
  1 a job failed     4 cancelled             7 denied
  2 wrong usage or   5 timed out waiting     8 conflict
    invalid input";

const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7400";

/// Tailor pre-trained networks to your tasks, and keep what comes out.
///
/// Data go to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(name = "nettailor-cli", version, propagate_version = true, after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// How a command begins that asks the coordinator, or opens the state, that this one works with.
    pub(crate) fn again(&self) -> String {
        let program = "nettailor-cli";
        match (&self.command, &self.global.local) {
            (Command::Run(run), _) => format!("{program} --local={}", run.state().display()),
            (_, Some(state)) => format!("{program} --local={}", state.display()),
            (_, None) if self.global.coordinator == DEFAULT_COORDINATOR => program.to_owned(),
            (_, None) => format!("{program} --coordinator {}", self.global.coordinator),
        }
    }
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Coordinator to work with
    #[arg(long, global = true, value_name = "URL", env = "NETTAILOR_COORDINATOR")]
    #[arg(default_value = DEFAULT_COORDINATOR, value_hint = ValueHint::Url)]
    pub(crate) coordinator: String,

    /// Use the state directory of `run` instead of a coordinator; nothing is trained
    #[arg(long, global = true, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = crate::embedded::STATE_DIR, value_hint = ValueHint::DirPath)]
    pub(crate) local: Option<PathBuf>,

    /// How to print data
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,

    /// No colours
    #[arg(long, global = true, env = "NO_COLOR", value_parser = not_empty, action = ArgAction::SetTrue)]
    pub(crate) no_color: bool,

    /// Say nothing but data and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Show the log of what runs in this process; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Nouns, and the verbs that need none.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tailor every task of a file on this machine, without a coordinator
    Run(run::Args),
    /// Hand a tasks file to the coordinator
    Submit(submit::Args),
    /// Check a tasks file, its images and its weights, without a coordinator
    Validate(validate::Args),
    /// The images that a task would learn from, without a coordinator
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Print the JSON Schema of tasks files
    Schema,
    /// Tailoring jobs: one per task of a submitted file
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// Machines that train
    #[command(subcommand)]
    Workers(workers::Command),
    /// Who shares the machines
    #[command(subcommand)]
    Users(users::Command),
    /// Say why a job or a worker stands where it stands, and what would help
    Explain(explain::Args),
    /// Tailored networks
    #[command(subcommand)]
    Registry(registry::Command),
    /// Pre-trained networks
    #[command(subcommand)]
    Backbone(backbone::Command),
    /// Print the completion script of a shell
    Completions(completions::Args),
}

/// Reads `90s`, `30m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; expected a span like 90s, 30m or 2h"))
}

/// Reads a span as whole minutes, of which at least one: `90m`, `2h`, or a number of minutes alone.
pub(crate) fn minutes(text: &str) -> Result<u32, String> {
    // As many as a tasks file may name: 694 days.
    const MOST: u64 = 1_000_000;
    let minutes = match text.parse::<u64>() {
        Ok(minutes) => minutes,
        Err(_) => duration(text)?.as_secs().div_ceil(60),
    };
    let minutes = u32::try_from(minutes)
        .ok()
        .filter(|_| (1..=MOST).contains(&minutes));
    minutes.ok_or_else(|| format!("expected from 1 to {MOST} minutes"))
}

/// Like [`minutes`]; 0 for `none`.
pub(crate) fn minutes_or_none(text: &str) -> Result<u32, String> {
    match text {
        "none" => Ok(0),
        _ => minutes(text).map_err(|error| format!("{error}, or `none`")),
    }
}

/// Reads a priority.
pub(crate) fn priority() -> RangedI64ValueParser<i32> {
    clap::value_parser!(i32).range(-100..=100)
}

/// NO_COLOR counts whatever its value, unless that is empty.
fn not_empty(text: &str) -> Result<bool, std::convert::Infallible> {
    Ok(!text.is_empty())
}

#[cfg(test)]
mod tests;
