//! Compiles the .proto files without protoc.

const FILES: [&str; 5] = ["common", "jobs", "workers", "registry", "artifacts"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo runs build scripts in the crate's folder. Where that lay when this script was compiled may be elsewhere.
    let root = std::env::current_dir()?;
    println!("cargo:rerun-if-changed=nettailor");
    let files = FILES.map(|name| root.join(format!("nettailor/v1/{name}.proto")));
    let descriptors = protox::compile(files, [&root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
