//! The lines of the log on their way to standard error: one thread writes them, and nobody waits
//! for it. While nobody reads, lines beyond a bound are dropped and counted.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const LINES_MAX: usize = 16_384;
/// Bytes that may wait to be written.
const BYTES_MAX: usize = 16 << 20;
/// How often a full queue is tried again at the end of the process.
const FLUSH_EVERY: Duration = Duration::from_millis(10);

enum Entry {
    Line(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines dropped since it was last told.
    untold: AtomicU64,
    dropped: AtomicU64,
}

/// Where lines are handed in; clones share one queue.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Entry>,
    counts: Arc<Counts>,
}

impl Lines {
    /// Starts the thread that writes to `to`. It calls `tell` with the number of dropped lines once
    /// it has caught up.
    pub(super) fn start(
        to: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, entries) = sync_channel(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&entries, &shared, to, tell))?;
        Ok(Self { queue, counts })
    }

    /// Hands in whole lines. Never waits.
    pub(super) fn push(&self, lines: &[u8]) {
        let size = lines.len();
        let before = self.counts.waiting.fetch_add(size, Ordering::Relaxed);
        let taken = before.saturating_add(size) <= BYTES_MAX
            && self.queue.try_send(Entry::Line(lines.to_vec())).is_ok();
        if !taken {
            self.counts.waiting.fetch_sub(size, Ordering::Relaxed);
            self.counts.untold.fetch_add(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written, but no longer than `limit`.
    #[expect(
        clippy::disallowed_methods,
        reason = "the process ends: no runtime is left that this could hold up"
    )]
    pub(super) fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        while let Err(error) = self.queue.try_send(entry) {
            let TrySendError::Full(again) = error else {
                return;
            };
            if Instant::now() >= deadline {
                return;
            }
            entry = again;
            thread::sleep(FLUSH_EVERY);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = written.recv_timeout(left);
    }

    /// Lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

fn write_all(entries: &Receiver<Entry>, counts: &Counts, mut to: impl Write, tell: impl Fn(u64)) {
    loop {
        let entry = match entries.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let dropped = counts.untold.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tell(dropped);
                    continue;
                }
                match entries.recv() {
                    Ok(entry) => entry,
                    Err(_) => return,
                }
            }
        };
        match entry {
            Entry::Line(line) => {
                // Nowhere is left to say that standard error is closed.
                let _ = to.write_all(&line);
                counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Entry::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// One write is one event, with its line break.
impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Writes only as often as it is permitted.
    struct Gated(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gated {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_is_told_once_what_it_missed() {
        let (open, gate) = channel();
        let (written, lines_read) = channel();
        let (told, tellings) = channel();
        let lines = Lines::start(Gated(gate, written), move |n| told.send(n).unwrap()).unwrap();
        // One is with the writer, perhaps, and the queue is full.
        for _ in 0..LINES_MAX + 1_000 {
            lines.push(b"a line\n");
        }
        let dropped = lines.dropped();
        assert!((999..=1_000).contains(&dropped), "{dropped}");
        lines.flush(Duration::from_millis(1));
        for _ in 0..=LINES_MAX {
            let _ = open.send(());
        }
        lines.flush(Duration::from_secs(30));
        assert_eq!(
            lines_read.try_iter().count() as u64 + dropped,
            LINES_MAX as u64 + 1_000
        );
        let told = tellings.recv_timeout(Duration::from_secs(30));
        assert_eq!(told, Ok(dropped));
        assert!(tellings.try_recv().is_err());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let (_open, gate) = channel::<()>();
        let (written, _lines) = channel();
        let lines = Lines::start(Gated(gate, written), |_| {}).unwrap();
        let line = vec![b'x'; BYTES_MAX / 4];
        for _ in 0..10 {
            lines.push(&line);
        }
        assert_eq!(lines.dropped(), 6);
    }
}
