//! Prints the JSON Schema of a tasks file: `cargo run -p nettailor-domain --example schema > docs/schema/tasks.schema.json`.

#![allow(clippy::print_stdout, reason = "printing is its purpose")]

fn main() -> serde_json::Result<()> {
    println!(
        "{}",
        serde_json::to_string_pretty(&nettailor_domain::taskfile::schema())?
    );
    Ok(())
}
