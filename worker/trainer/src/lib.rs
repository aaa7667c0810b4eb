//! nettailor-trainer
