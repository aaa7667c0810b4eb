//! `schema`: what a tasks file may contain.

use nettailor_domain::taskfile;

use crate::error::Error;
use crate::output::Console;

pub(crate) fn run(console: &Console) -> Result<(), Error> {
    let schema = serde_json::to_string_pretty(&taskfile::schema()).expect("a schema is JSON");
    console.text(&(schema + "\n"))
}
