//! Who waits for a disk and holds up others meanwhile: a thread that serves connections and is found waiting in
//! `sendfile`.
//!
//! The kernel tells of every thread whether it waits for a disk, and in which call. A server may wait in threads that it
//! has for that; those call something else.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bench::process::Process;

/// How often to look: a read of a disk takes a fraction of a millisecond at least.
const EVERY: Duration = Duration::from_micros(500);
/// The number of `sendfile`, as `/proc` tells it.
const SENDFILE: &str = if cfg!(target_arch = "x86_64") {
    "40"
} else {
    "71"
};

/// How often was looked, and how often somebody was found waiting.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Waits {
    pub(super) looks: u32,
    pub(super) found: u32,
}

/// Looks at a server's threads until it is told to stop.
#[derive(Debug)]
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Waits>,
}

impl Watch {
    pub(super) fn start(process: Process) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut waits = Waits::default();
                while !is_over.load(Ordering::Relaxed) {
                    waits.looks += 1;
                    waits.found += u32::from(is_waiting(process));
                    // why: the times between the looks are what is measured by.
                    std::thread::sleep(EVERY);
                }
                waits
            }
        });
        Self { is_over, thread }
    }

    pub(super) fn stop(self) -> Waits {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Whether a thread of the server waits for a disk in `sendfile`.
fn is_waiting(process: Process) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.id)) else {
        return false;
    };
    threads.flatten().any(|thread| {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        is_in_sendfile(&read("stat"), &read("syscall"))
    })
}

/// What proc(5) says of a thread in `stat`, and in `syscall`.
fn is_in_sendfile(stat: &str, syscall: &str) -> bool {
    // The name before may hold anything, brackets included.
    let state = stat.rsplit_once(") ").map_or("", |(_, state)| state);
    state.starts_with('D') && syscall.split(' ').next() == Some(SENDFILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_waits_in_sendfile_where_both_files_say_so() {
        let call = format!("{SENDFILE} 0x9 0x1f 0x7ff 0x1000 0x0 0x0 0x7ffc 0x7f2e");
        assert!(is_in_sendfile("7 (a) D) D 1 7 7 0", &call));
        assert!(!is_in_sendfile("7 (a) D) S 1 7 7 0", &call));
        assert!(!is_in_sendfile("7 (a) D 1 7 7 0", "17 0x9"));
        assert!(!is_in_sendfile("7 (a) D 1 7 7 0", "running"));
        assert!(!is_in_sendfile("", ""));
    }
}
