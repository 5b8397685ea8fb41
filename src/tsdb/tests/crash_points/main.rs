//! A data directory cut off at every point of what is done with it: every prefix of the calls of each operation, with
//! every variant of what a power cut or the end of the process may leave of them, is opened, gone on with, and opened
//! again. What was acknowledged is found once, and nothing that was not sent. Then the same on disks that fail.
//!
//! A few of all images are checked; `TSDBCTL_CRASH_POINTS=all` checks all of them, a number every so manieth.
//! `TSDBCTL_PEER_PROMTOOL` names a promtool that reads some of the directories too.

#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests make files and say what they did")]

mod check;
mod failing;
mod images;
mod model;
mod operations;
mod world;
