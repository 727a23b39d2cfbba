//! What has happened in a run, in order: a hash of everything, and the last lines of it.

use std::{collections::VecDeque, fmt, time::Duration};

/// Lines that a failure shows.
const LAST: usize = 40;

#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    steps: u64,
    last: VecDeque<String>,
    /// Whether every line is printed.
    pub(crate) prints: bool,
}

impl Trace {
    /// Notes a step of a process, or of the world around them (number 0).
    pub(crate) fn note(&mut self, at: Duration, process: usize, what: &dyn fmt::Display) {
        let line = format!("{:>9.3} s  #{process} {what}", at.as_secs_f64());
        self.count(at, process, &line);
        if self.prints {
            println!("{line}");
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Counts a step that says nothing to a reader: most are looks for something to do.
    pub(crate) fn count(&mut self, at: Duration, process: usize, what: &str) {
        self.steps += 1;
        let numbers = [u64::try_from(at.as_nanos()).unwrap(), process as u64];
        let numbers = numbers.into_iter().flat_map(u64::to_le_bytes);
        // FNV-1a, which is the same in every build.
        for byte in numbers.chain(what.bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
