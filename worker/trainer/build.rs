//! Where the trainer finds libtorch at run time: where the crate below it was built with it.

#[path = "../run_path.rs"]
mod run_path;

#[allow(
    clippy::disallowed_methods,
    reason = "a build script is configured by environment variables"
)]
fn main() {
    let libtorch = std::env::var_os("DEP_NETTAILOR_COLLECTIVE_LIBTORCH_LIB")
        .expect("the build script of nettailor-collective says where libtorch is");
    run_path::emit(libtorch.as_ref());
}
