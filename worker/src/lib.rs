//! nettailor-worker
