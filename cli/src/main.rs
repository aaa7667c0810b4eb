//! `nettailor-cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nettailor_cli::main()
}
