//! Checkpoints: what is still needed of the first segments of the log, in fewer.
