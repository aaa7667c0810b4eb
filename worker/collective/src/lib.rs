//! nettailor-collective
