//! Ends a child process and what it started.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Asks a child that leads a process group of its own to end, and waits for it. After ten seconds the whole group
/// is killed.
pub fn end(child: &mut Child) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    // While it has not been waited for, its number cannot belong to anybody else.
    if matches!(child.try_wait(), Ok(None)) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose command line names a file below this folder.
pub fn below(folder: &Path) -> Vec<(Pid, String)> {
    let folder = folder.to_str().expect("a temporary folder's name is text");
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let processes = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(folder)
            .then_some((Pid::from_raw(number)?, line))
    });
    processes.collect()
}

/// Kills those, and waits until they are gone: the checks of a daemon have sessions of their own, and outlive it.
pub fn kill_below(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = below(folder);
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for (pid, _) in left {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
