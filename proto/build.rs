//! Compiles the .proto files without protoc.

use std::path::Path;

const FILES: [&str; 5] = ["common", "jobs", "workers", "registry", "artifacts"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=nettailor");
    let files = FILES.map(|name| root.join(format!("nettailor/v1/{name}.proto")));
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
