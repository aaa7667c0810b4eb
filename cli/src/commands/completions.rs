//! `completions SHELL`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::error::Error;
use crate::output::Console;

/// For instance: nettailor-cli completions bash > ~/.local/share/bash-completion/completions/nettailor-cli
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell to complete in
    shell: Shell,
}

pub(crate) fn run(args: &Args, console: &Console) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::args::Args::command(),
        "nettailor-cli",
        &mut script,
    );
    console.text(&String::from_utf8_lossy(&script))
}
