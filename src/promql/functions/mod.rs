//! What functions and operators compute, on columns and single samples, free of planning and storage.

pub mod aggregate;
pub mod binary;
pub mod calendar;
pub mod classic_histogram;
pub mod math;
pub mod native_histogram;
pub mod order;
pub mod windows;

pub use windows::ScalarArg;
