//! What processes of this machine have used, from `/proc`.

use std::{fs, path::Path};

/// Clock ticks in a second: a constant of Linux's interface, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

/// Processor time, in seconds, of all processes of a name, and of children that they waited for.
/// None where there is no such process: the service runs elsewhere.
pub(super) fn processor_seconds_of(name: &str) -> Option<f64> {
    let mut ticks = None;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(stat) = Stat::read(&entry.path()) else {
            continue;
        };
        if stat.name == name {
            // A server's children are counted while they live, and by their parent afterwards.
            ticks = Some(ticks.unwrap_or(0) + stat.ticks + stat.ticks_of_ended);
        }
    }
    ticks.map(|ticks| f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / TICKS)
}

/// Processor time of a process, in seconds.
pub(super) fn processor_seconds(id: u32) -> Option<f64> {
    let stat = Stat::read(Path::new(&format!("/proc/{id}")))?;
    Some(f64::from(u32::try_from(stat.ticks).unwrap_or(u32::MAX)) / TICKS)
}

/// The most memory that a process has held at a time, in bytes.
pub(super) fn peak_memory(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

struct Stat {
    name: String,
    ticks: u64,
    ticks_of_ended: u64,
}

impl Stat {
    fn read(folder: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(folder.join("stat")).ok()?)
    }

    /// A line of `/proc/PID/stat`. The name is in brackets and may contain anything.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        // From the third column of the page proc(5) on; the times are the 14th to the 17th.
        let mut times = after.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut sum = || Some(times.next()?.ok()? + times.next()?.ok()?);
        Some(Self {
            name: name.to_owned(),
            ticks: sum()?,
            ticks_of_ended: sum()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4 5 6 0 0 30 12 4 5 20 0 1 0 99";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.ticks), ("a) b (c", 42));
        assert_eq!(stat.ticks_of_ended, 9);
    }

    #[test]
    fn this_process_has_used_something() {
        let id = std::process::id();
        if cfg!(target_os = "linux") {
            assert!(processor_seconds(id).is_some());
            assert!(peak_memory(id).unwrap() > 1_000_000);
        }
    }
}
