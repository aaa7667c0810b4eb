//! nettailor-cli
