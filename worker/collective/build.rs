//! Compiles the bridge to libtorch's c10d with the libtorch that torch-sys found, and passes its place on.

use std::path::{Path, PathBuf};

#[path = "../run_path.rs"]
mod run_path;

#[allow(
    clippy::disallowed_methods,
    reason = "a build script is configured by environment variables"
)]
fn main() {
    let lib: PathBuf = std::env::var_os("DEP_TCH_LIBTORCH_LIB")
        .expect("torch-sys says where libtorch is")
        .into();
    println!("cargo:libtorch_lib={}", lib.display());
    run_path::emit(&lib);

    println!("cargo:rerun-if-changed=src/bridge");
    let include = lib.parent().unwrap_or(Path::new("/")).join("include");
    cxx_build::bridge("src/bridge/mod.rs")
        .file("src/bridge/c10d.cc")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .std("c++17")
        // The library is built with gloo; its header shows that only on request. gloo's own headers are the system's.
        .define("USE_C10D_GLOO", None)
        // libtorch's headers are not free of warnings.
        .warnings(false)
        .compile("nettailor-c10d");
}
