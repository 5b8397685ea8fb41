//! Files that are cut short while they are mapped: the read fails, the process lives.
//!
//! Touching a page that the file no longer has raises SIGBUS. For an address inside a guarded map the handler puts a
//! page of zeros there and marks the map; whoever read from it asks [`Guard::has_faulted`] before it trusts what it
//! read. Every other SIGBUS goes to whoever handled it before.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Maps that can be guarded at one time; more are mapped without a guard.
const SLOTS: usize = 4096;

/// The address range of a map. `start` is 0 for a free slot and 1 for one that is being filled.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    faulted: AtomicBool,
}

static MAPS: [Slot; SLOTS] = [const {
    Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), faulted: AtomicBool::new(false) }
}; SLOTS];

/// Slots that were ever used are below this.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Watches over one map until dropped; drop it before the map.
#[derive(Debug)]
pub(crate) struct Guard {
    slot: Option<usize>,
}

impl Guard {
    /// Guards the bytes of a map.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        platform::install();
        let start = bytes.as_ptr() as usize;
        for (i, slot) in MAPS.iter().enumerate() {
            if slot.start.load(Ordering::Relaxed) == 0
                && slot.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                slot.faulted.store(false, Ordering::Relaxed);
                slot.end.store(start + bytes.len(), Ordering::Relaxed);
                slot.start.store(start, Ordering::Release);
                USED.fetch_max(i + 1, Ordering::AcqRel);
                return Self { slot: Some(i) };
            }
        }
        Self { slot: None }
    }

    /// Whether some read from the map met a page that the file does not have.
    pub(crate) fn has_faulted(&self) -> bool {
        self.slot.is_some_and(|i| MAPS[i].faulted.load(Ordering::Acquire))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(i) = self.slot {
            MAPS[i].start.store(0, Ordering::Release);
        }
    }
}

/// The slot whose map an address lies in.
fn slot_of(address: usize) -> Option<&'static Slot> {
    let used = USED.load(Ordering::Acquire).min(SLOTS);
    MAPS[..used].iter().find(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        start > 1 && (start..slot.end.load(Ordering::Relaxed)).contains(&address)
    })
}

#[cfg(unix)]
#[allow(unsafe_code)]
mod platform {
    use std::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    use super::*;

    /// What handled SIGBUS before.
    struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);

    // SAFETY: written once, before the handler that reads it is installed.
    unsafe impl Sync for Previous {}

    static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::zeroed()));
    static PAGE: AtomicUsize = AtomicUsize::new(4096);

    /// Installs the handler, once per process.
    pub(super) fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: plain system calls on structures of the right type; the handler only does what a signal
            // handler may (see there). The previous action is stored before the new one can run.
            unsafe {
                let page = libc::sysconf(libc::_SC_PAGESIZE);
                PAGE.store(usize::try_from(page).unwrap_or(4096), Ordering::Relaxed);
                libc::sigaction(libc::SIGBUS, std::ptr::null(), (*PREVIOUS.0.get()).as_mut_ptr());
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_bus_error as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&mut action.sa_mask);
                libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
            }
        });
    }

    extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the system passes a valid siginfo. Only atomics, mmap and sigaction are used, which neither
        // allocate nor lock. The page replaced belongs to a live read-only map: its guard is dropped before it.
        unsafe {
            let address = (*info).si_addr() as usize;
            if let Some(slot) = slot_of(address) {
                let page = PAGE.load(Ordering::Relaxed);
                let got = libc::mmap(
                    (address & !(page - 1)) as *mut libc::c_void,
                    page,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                );
                if got != libc::MAP_FAILED {
                    slot.faulted.store(true, Ordering::Release);
                    return;
                }
            }
            // Not ours: the instruction runs again under the action that was there before.
            libc::sigaction(libc::SIGBUS, (*PREVIOUS.0.get()).as_ptr(), std::ptr::null_mut());
        }
    }
}

#[cfg(not(unix))]
mod platform {
    /// Other systems do not let a mapped file be cut short.
    pub(super) fn install() {}
}
