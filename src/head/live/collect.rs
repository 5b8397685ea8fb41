//! Taking away what is in blocks: chunks before a time, series without samples, files nobody needs.
