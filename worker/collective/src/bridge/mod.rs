//! The crate's one door to C++: libtorch's c10d, which tch does not expose. `c10d.h` says what each thing does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::{Aborted, Gate};

#[allow(
    unreachable_pub,
    reason = "the generated functions are as public as cxx wants them"
)]
#[cxx::bridge(namespace = "nettailor")]
mod ffi {
    extern "Rust" {
        type Outcome;
        fn succeed(self: &Outcome);
        fn fail(self: &Outcome, message: String);
    }

    unsafe extern "C++" {
        include!("nettailor-collective/src/bridge/c10d.h");

        #[namespace = "at"]
        type Tensor;

        type Store;
        fn host_store(timeout_ms: u64) -> Result<UniquePtr<Store>>;
        fn join_store(host: &str, port: u16, timeout_ms: u64) -> Result<UniquePtr<Store>>;
        fn another(self: &Store) -> Result<UniquePtr<Store>>;
        fn port(self: &Store) -> u16;
        fn set(self: &Store, key: &str, value: &[u8]) -> Result<()>;
        fn wait(self: &Store, keys: &[String], timeout_ms: u64) -> Result<()>;
        fn get(self: &Store, key: &str, timeout_ms: u64) -> Result<Vec<u8>>;
        fn has(self: &Store, key: &str) -> Result<bool>;
        fn add(self: &Store, key: &str, amount: i64) -> Result<i64>;

        type Gloo;
        fn join_gloo(
            store: &Store,
            prefix: &str,
            address: &str,
            rank: i32,
            world_size: i32,
            timeout_ms: u64,
        ) -> Result<UniquePtr<Gloo>>;
        fn sum(self: &Gloo, tensor: &Tensor, outcome: Box<Outcome>) -> Result<()>;
        fn broadcast(self: &Gloo, tensor: &Tensor, root: i32, outcome: Box<Outcome>) -> Result<()>;
    }
}

pub(crate) use ffi::{Gloo, Store, host_store, join_gloo, join_store};

// SAFETY: a TCPStore's client takes a lock for each call, and nothing in it belongs to a thread.
unsafe impl Send for Store {}
// SAFETY: as above; every method that Rust sees is const and locks.
unsafe impl Sync for Store {}
// SAFETY: a process group may be made by one thread, used by another and destroyed by a third. It is not Sync: starting
// operations from several threads would put them into an order of chance.
unsafe impl Send for Gloo {}

/// tch's tensor as C++ sees it.
pub(crate) fn tensor(tensor: &tch::Tensor) -> &ffi::Tensor {
    // SAFETY: tch's handle is an `at::Tensor*` that lives as long as the tch tensor; `ffi::Tensor` is opaque.
    unsafe { &*tensor.as_ptr().cast() }
}

/// How an operation of gloo ended, once it has. It is told by a thread of gloo's, and waited for at a gate.
#[derive(Clone)]
pub(crate) struct Outcome {
    gate: Arc<Gate>,
    result: Arc<Mutex<Option<Result<(), String>>>>,
}

impl Outcome {
    /// Of an operation that is about to start.
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            result: Arc::default(),
        }
    }

    /// Waits for the operation's end. An error of it is in words.
    pub(crate) fn wait(&self) -> Result<Result<(), String>, Aborted> {
        self.gate.wait(|| self.lock().clone())
    }

    fn succeed(&self) {
        *self.lock() = Some(Ok(()));
        self.gate.knock();
    }

    fn fail(&self, message: String) {
        *self.lock() = Some(Err(message));
        self.gate.knock();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
