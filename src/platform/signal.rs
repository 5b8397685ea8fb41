//! Being asked to stop: SIGINT and SIGTERM as a flag that long work looks at.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on the first SIGINT or SIGTERM only sets the flag that is returned; the second ends the process.
pub fn stop_flag() -> StopFlag {
    install();
    StopFlag(())
}

/// Whether the process was asked to stop.
#[derive(Clone, Copy, Debug)]
pub struct StopFlag(());

impl StopFlag {
    /// Whether a signal came.
    pub fn is_set(self) -> bool {
        ASKED.load(Ordering::Relaxed)
    }
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn install() {
    extern "C" fn on_signal(_: libc::c_int) {
        ASKED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: plain system calls on a structure of the right type; the handler only stores to an atomic, which a
        // signal handler may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

#[cfg(not(unix))]
fn install() {}
