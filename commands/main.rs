//! The binary: allocator, signals, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Rust ignores SIGPIPE, so a closed pipe is a failed write, which `run` turns into a quiet success;
    // SIGINT keeps its default: nothing is being written, so ctrl-C may end the process at once.
    tsdbctl::main_with(std::env::args_os())
}
