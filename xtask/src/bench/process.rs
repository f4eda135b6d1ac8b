//! What the kernel says of a server: processor time and memory; and on which core it runs.

use std::fs;

use anyhow::{Context, Result};
use rustix::thread::CpuSet;

/// A process and all that it started.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Process {
    pub(in crate::bench) id: u32,
}

/// From now on this thread, and whatever it starts, runs on one core.
pub(in crate::bench) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
        .with_context(|| format!("cannot run on core {core}"))
}

/// This thread's own processor time, in seconds.
pub(in crate::bench) fn own_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split(' ').next().unwrap_or_default();
    let nanoseconds: u64 = first.parse().context("/proc/thread-self/schedstat")?;
    Ok(std::time::Duration::from_nanos(nanoseconds).as_secs_f64())
}

impl Process {
    /// Its processor time so far, of all threads and children, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "ticks here are far below 2^52")]
    pub(in crate::bench) fn seconds(self) -> Result<f64> {
        let mut ticks = 0;
        for id in self.family()? {
            let fields = stat(id)?;
            // utime and stime of proc(5), counted from the third field on.
            for field in [11, 12] {
                let number = fields.get(field).context("a short stat")?;
                ticks += number.parse::<u64>()?;
            }
        }
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Its anonymous memory: what cannot be read again from a file. In bytes.
    pub(in crate::bench) fn anonymous(self) -> Result<u64> {
        let mut bytes = 0;
        for id in self.family()? {
            let text = fs::read_to_string(format!("/proc/{id}/status"))?;
            let kilobytes = text
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"))
                .context("a status without RssAnon")?;
            bytes += kilobytes.trim().parse::<u64>()? << 10;
        }
        Ok(bytes)
    }

    /// How many descriptors are open.
    pub(in crate::bench) fn descriptors(self) -> Result<u64> {
        let mut open = 0;
        for id in self.family()? {
            open += fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64;
        }
        Ok(open)
    }

    /// The process, its children, theirs, and so on.
    fn family(self) -> Result<Vec<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process that has ended meanwhile is none of ours.
            let Ok(fields) = stat(id) else { continue };
            if let Some(parent) = fields.get(1).and_then(|parent| parent.parse::<u32>().ok()) {
                parents.push((id, parent));
            }
        }
        let mut family = vec![self.id];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            let children = parents.iter().filter(|(_, of)| *of == parent);
            family.extend(children.map(|(id, _)| *id));
            next += 1;
        }
        Ok(family)
    }
}

/// The fields of `/proc/ID/stat` behind the name, which may hold blanks: state first.
fn stat(id: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a stat without a name")?;
    Ok(fields.split_whitespace().map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn a_process_has_memory_and_time_and_children() {
        let me = Process {
            id: std::process::id(),
        };
        assert!(me.anonymous().expect("memory") > 0);
        assert!(me.seconds().expect("time") >= 0.0);
        assert!(me.descriptors().expect("descriptors") >= 3);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("a child");
        let family = me.family().expect("a family");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(family.contains(&child.id()), "{family:?}");
    }
}
