//! The only place where the tests read their environment.
#![allow(clippy::disallowed_methods, reason = "this is the crate's environment module")]

use std::env;

/// The variable `name`, if it is set to some text.
pub fn setting(name: &str) -> Option<String> {
    env::var(name).ok()
}
