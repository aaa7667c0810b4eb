//! nettailor-coordinator
