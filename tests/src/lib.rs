//! nettailor-tests
