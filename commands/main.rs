//! The binary: allocator, signals, exit code.

fn main() {}
