//! nettailor-proto
