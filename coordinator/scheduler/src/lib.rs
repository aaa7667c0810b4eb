//! nettailor-scheduler
