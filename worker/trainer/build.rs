//! Run path of the trainer's binary, tests and examples: the libtorch it was built with, and `../lib` beside the binary
//! (as in the container images), so that nobody has to set LD_LIBRARY_PATH.

#[allow(
    clippy::disallowed_methods,
    reason = "a build script is configured by environment variables"
)]
fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    // Cargo runs build scripts in the crate's folder.
    let root = std::path::Path::new("../..");
    let libtorch = std::env::var_os("LIBTORCH").map_or_else(|| ".libtorch".into(), std::path::PathBuf::from);
    // A relative path counts from the workspace; an absolute one replaces it.
    let lib = root.join(libtorch).join("lib");
    let lib = lib.canonicalize().unwrap_or(lib);
    // Link arguments for everything this package links: binary, tests, examples, benches.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // libtorch.so names no symbol that we use; keep its dependencies all the same.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
}
