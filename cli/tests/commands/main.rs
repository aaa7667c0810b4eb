//! The command line held to what it promises: the real binary, a coordinator in this process or in the binary itself, and
//! a scripted trainer in place of libtorch.

mod bench;
mod errors;
mod one_process;
mod policy;
mod remote;
mod scripted;
