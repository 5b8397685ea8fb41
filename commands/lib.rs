//! The command line of `tsdbctl`.
