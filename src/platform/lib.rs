//! The outside world behind small traits: files, maps, directories, clock. Nothing else in the project
//! touches `std::fs` or the system clock.

#![allow(clippy::disallowed_methods, reason = "they are wrapped here")]

pub mod clock;
pub mod crash;
pub mod disk;
mod fault;
pub mod faulty;
pub mod file;
pub mod journal;
pub mod lock;
pub mod map;
pub mod open_files;
pub mod random;
pub mod real;
pub mod recorder;
pub mod signal;
pub mod world;
