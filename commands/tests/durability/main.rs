//! What `ingest --ack` called safe survives: SIGKILL at any time, power cuts, full disks, other hands.
//!
//! So does what is in blocks, when what works on them ends anywhere.
//!
//! Counts are small here and grow with the environment: `TSDBCTL_KILLS` and
//! `TSDBCTL_COMPACT_KILLS` (SIGKILLs), `TSDBCTL_POWER_CUTS` and
//! `TSDBCTL_FULL_DISKS` (both need the right to mount; 0 unless set), `TSDBCTL_HANDOVERS`. `TSDBCTL_SEED` repeats a run.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]
#![allow(clippy::print_stdout, reason = "what was tried, and what was skipped, is worth saying")]

mod block_work;
mod feed;
mod full_disks;
mod handover;
mod kills;
mod mount;
mod power_cuts;
