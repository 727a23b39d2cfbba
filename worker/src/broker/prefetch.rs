//! How many commands a source may hold at a time. Pure.
//!
//! A broker counts messages, but what they cost is memory. So a source begins with few, measures
//! them, and then asks for as many as are expected to fit; the setting is the upper bound.

/// Bytes of commands that a source holds unsettled, about: for each queue of the broker, and for the
/// file of the embedded queue. At twice as many it takes no more until it is below this again.
pub(crate) const HELD_BYTES_MAX: usize = 8 << 20;
/// Commands to begin with: even the largest that a producer may send fit into memory.
const FIRST: u16 = 32;
/// The newest command counts as one in so many in the mean.
const WEIGHT: usize = 32;

/// Follows the mean size of commands.
#[derive(Clone, Debug)]
pub(crate) struct Prefetch {
    max: u16,
    now: u16,
    /// Commands measured since `now` was set.
    measured: u16,
    mean_bytes: Option<usize>,
}

impl Prefetch {
    /// At most `max` commands, at least one.
    pub(crate) fn new(max: u16) -> Self {
        let max = max.max(1);
        Self {
            max,
            now: max.min(FIRST),
            measured: 0,
            mean_bytes: None,
        }
    }

    /// How many commands may be held.
    pub(crate) fn now(&self) -> u16 {
        self.now
    }

    /// Measures a command.
    pub(crate) fn delivered(&mut self, bytes: usize) {
        let mean = self.mean_bytes.unwrap_or(bytes);
        self.mean_bytes = Some(mean - mean / WEIGHT + bytes / WEIGHT);
        self.measured = self.measured.saturating_add(1);
    }

    /// Changes the number if it is far from what fits; returns whether it did. Growing waits until
    /// as many as now were measured.
    pub(crate) fn adapt(&mut self) -> bool {
        let fits = self.fitting();
        let is_far = fits >= self.now.saturating_mul(2) || fits == self.max;
        let grows = fits > self.now && is_far && self.measured >= self.now;
        let shrinks = fits <= self.now / 2;
        if grows || shrinks {
            self.now = fits;
            self.measured = 0;
        }
        grows || shrinks
    }

    fn fitting(&self) -> u16 {
        let fitting = HELD_BYTES_MAX / self.mean_bytes.unwrap_or_default().max(1);
        u16::try_from(fitting)
            .unwrap_or(u16::MAX)
            .clamp(1, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(prefetch: &mut Prefetch, count: usize, bytes: usize) -> u16 {
        for _ in 0..count {
            prefetch.delivered(bytes);
            prefetch.adapt();
        }
        prefetch.now()
    }

    #[test]
    fn small_commands_get_the_whole_setting_and_large_ones_what_fits() {
        let mut prefetch = Prefetch::new(2_048);
        assert_eq!(after(&mut prefetch, 31, 500), 32);
        assert_eq!(after(&mut prefetch, 1, 500), 2_048);
        assert_eq!(after(&mut prefetch, 1, 1 << 20), 252);
        assert!((8..16).contains(&after(&mut prefetch, 500, 1 << 20)));
        assert_eq!(after(&mut prefetch, 500, 64 << 20), 1);
        assert_eq!(after(&mut prefetch, 5_000, 500), 2_048);
    }

    #[test]
    fn the_setting_is_the_upper_bound() {
        assert_eq!(Prefetch::new(0).now(), 1);
        assert_eq!(after(&mut Prefetch::new(20), 100, 10), 20);
        assert_eq!(after(&mut Prefetch::new(u16::MAX), 500, 1), u16::MAX);
        assert_eq!(after(&mut Prefetch::new(2_048), 1, 1 << 20), 8);
    }
}
