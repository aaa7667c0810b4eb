//! nettailor-artifacts
