//! Run path of what the crates above libtorch link (binary, tests, examples), so that nobody has to set
//! LD_LIBRARY_PATH. A part of their build scripts.

use std::path::Path;

/// Adds the folder of the libtorch that this is built with, and `../lib` beside the binary (as in the container images).
pub(crate) fn emit(libtorch: &Path) {
    let libtorch = libtorch.canonicalize().unwrap_or_else(|_| libtorch.to_owned());
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libtorch.display());
    // libtorch.so names no symbol that we use; keep its dependencies all the same.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
}
