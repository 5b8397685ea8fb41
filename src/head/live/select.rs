//! The live head as a querier.
