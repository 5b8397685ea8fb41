//! From text to tree and back.

pub mod ast;
pub mod functions;
