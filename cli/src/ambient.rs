//! What comes from the process's surroundings: variables, cores, the log.

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

/// Folder for what can be computed again, `$XDG_CACHE_HOME/nettailor` or `~/.cache/nettailor`; none without a home.
#[allow(clippy::disallowed_methods, reason = "this module reads the environment")]
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("nettailor"))
}

/// Folder for what is needed now only.
pub(crate) fn temporary_dir() -> PathBuf {
    std::env::temp_dir().join("nettailor")
}

/// What the environment says about object stores: keys, regions, endpoints.
#[allow(clippy::disallowed_methods, reason = "this module reads the environment")]
pub(crate) fn object_store_settings() -> Vec<(String, String)> {
    let about_stores = |name: &str| {
        ["AWS_", "AZURE_", "GOOGLE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| about_stores(name))
        .collect()
}

/// CPU cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Sends the log of the embedded coordinator and workers to stderr: errors, more with `-v`. `NETTAILOR_LOG` decides if set.
pub(crate) fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("NETTAILOR_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A log that is already there is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
