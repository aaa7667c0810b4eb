//! The whole way over the fake libraries of `fake.c`.

use std::ffi::CString;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use nix::libc;

use super::*;
use crate::conformance::{self, Muster};
use crate::testing::{Meeting, PATIENT};
use crate::{Collective as _, Limits};

/// Builds both libraries and loads them. The dynamic linker then answers with them when `libnccl.so` and `libcuda.so` are
/// asked for: it knows loaded libraries by the names they carry.
fn load_fakes() {
    static LOADED: Once = Once::new();
    LOADED.call_once(|| {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, part) in [("libcuda.so", "DRIVER"), ("libnccl.so", "NCCL")] {
            let library = folder.path().join(name);
            let mut compiler = Command::new("cc");
            compiler
                .args(["-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror"])
                .arg(format!("-D{part}"))
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nccl/fake.c"))
                .arg("-o")
                .arg(&library)
                .arg(format!("-Wl,-soname,{name}"))
                .arg("-L")
                .arg(folder.path());
            if part == "NCCL" {
                compiler.arg("-lcuda");
            }
            assert!(
                compiler.status().expect("cc").success(),
                "{name} does not compile"
            );
            let path = CString::new(library.to_str().expect("UTF-8")).expect("no zero byte");
            // SAFETY: the library has no initialisers, and stays.
            let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
            assert!(!handle.is_null(), "{name} cannot be loaded");
        }
    });
    assert!(available(), "the loaded libraries are found by their names");
}

/// On host memory.
fn gang(meeting: &Meeting, rank: usize) -> Gang {
    load_fakes();
    join(meeting.rendezvous(rank), rank, Device::Cpu).expect("a gang")
}

#[test]
fn conforms() {
    for world_size in [1, 2, 4] {
        let meeting = Meeting::new(world_size, PATIENT);
        conformance::check(world_size, |rank| Box::new(gang(&meeting, rank)));
    }
}

#[test]
fn is_left() {
    for world_size in [1, 2, 4] {
        let meeting = Meeting::new(world_size, PATIENT);
        conformance::check_leave(world_size, |rank| Box::new(gang(&meeting, rank)));
    }
}

#[test]
fn a_rank_that_ends_too_early_is_lost() {
    for lost in [0, 1] {
        let meeting = Meeting::new(3, PATIENT);
        let reason = format!("rank {lost} ended before the others");
        let end = |gang| {
            drop(gang);
            None
        };
        conformance::check_loss(3, lost, &reason, |rank| gang(&meeting, rank), end);
    }
}

/// `wait` hands the order over to the GPU and does not look back: only `ncclCommAbort` ends what torch then waits for.
#[test]
fn an_abort_ends_what_hangs_on_the_gpu() {
    let meeting = Meeting::new(2, PATIENT);
    let begun = Muster::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let gang = gang(&meeting, 0);
            gang.barrier().expect("barrier");
            begun.wait();
            gang.abort("enough");
        });
        scope.spawn(|| {
            let gang = gang(&meeting, 1);
            gang.barrier().expect("barrier");
            let pending = gang.start_all_reduce_mean(vec![Tensor::from_slice(&[1.0f32])]);
            begun.wait();
            let result = pending.expect("start").wait();
            assert!(
                matches!(&result, Err(Error::Aborted { reason }) if reason == "enough"),
                "{result:?}"
            );
        });
    });
}

/// The fake breaks the connections of whoever reduces 13 numbers.
#[test]
fn a_broken_connection_is_noticed_whoever_waits() {
    let limits = Limits {
        silence: Duration::from_millis(200),
        ..PATIENT
    };
    for host_waits in [true, false] {
        let meeting = Meeting::new(1, limits);
        let gang = gang(&meeting, 0);
        let fatal = Tensor::zeros([13], (Kind::Float, Device::Cpu));
        // NCCL may tell when the operation is queued.
        let result = gang.start_all_reduce_mean(vec![fatal]).and_then(|pending| {
            if host_waits {
                pending.synchronize()
            } else {
                pending.wait()
            }
        });
        assert!(
            matches!(&result, Err(Error::Aborted { reason }) if reason.contains("remote process exited")),
            "{result:?}"
        );
    }
}
