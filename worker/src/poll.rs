//! The loop shared by all tasks that poll the store for work.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;

/// The result of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There may be more: the next look follows at once.
    More,
    /// There is nothing more for now.
    Nothing,
}

impl Found {
    /// More, if `more` says so.
    pub(crate) fn more_if(more: bool) -> Self {
        if more { Self::More } else { Self::Nothing }
    }
}

/// How often to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Every {
    /// The wait after a look that found nothing, and about the first one after a failure.
    pub(crate) idle: Duration,
    /// About the longest wait after a failure.
    pub(crate) longest: Duration,
}

/// Looks until stopped; a look that has begun is finished. Waits grow from failure to failure, and
/// each failure is passed to `failed`.
pub(crate) async fn poll<E, Look>(
    every: Every,
    stopping: &CancellationToken,
    mut look: impl FnMut() -> Look,
    failed: impl Fn(E),
) where
    Look: Future<Output = Result<Found, E>>,
{
    let mut backoff = Backoff::new(every.idle, every.longest);
    while !stopping.is_cancelled() {
        let wait = match look().await {
            Ok(found) => {
                backoff.reset();
                match found {
                    Found::More => continue,
                    Found::Nothing => every.idle,
                }
            }
            Err(error) => {
                failed(error);
                backoff.next()
            }
        };
        stopping.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// Polls until `looks` are used up. Returns when each look was made and how many failed.
    async fn run(idle: Duration, looks: &[Result<Found, ()>]) -> (Vec<Duration>, usize) {
        let every = Every {
            idle,
            longest: idle * 4,
        };
        let (began, stopping) = (Instant::now(), CancellationToken::new());
        let (times, failures) = (Mutex::new(Vec::new()), Mutex::new(0));
        let look = || {
            let mut times = times.lock().unwrap();
            let look = looks[times.len()];
            times.push(began.elapsed());
            if times.len() == looks.len() {
                stopping.cancel();
            }
            std::future::ready(look)
        };
        poll(every, &stopping, look, |()| *failures.lock().unwrap() += 1).await;
        (times.into_inner().unwrap(), failures.into_inner().unwrap())
    }

    #[tokio::test]
    async fn what_may_have_more_is_looked_at_again_at_once_and_a_stop_ends_every_wait() {
        let hour = Duration::from_hours(1);
        for last in [Ok(Found::More), Ok(Found::Nothing), Err(())] {
            let (times, failures) = run(hour, &[Ok(Found::More), Ok(Found::More), last]).await;
            assert!(times[2] < hour / 2, "{times:?}");
            assert_eq!(failures, usize::from(last.is_err()));
        }
    }

    #[tokio::test]
    async fn a_look_that_found_nothing_or_failed_is_followed_by_a_wait() {
        let idle = Duration::from_millis(20);
        let mut looks = vec![Ok(Found::Nothing)];
        looks.extend([Err(()); 6]);
        let (times, failures) = run(idle, &looks).await;
        assert_eq!(failures, 6);
        let waits: Vec<_> = times
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .collect();
        assert!(waits[0] >= idle, "{waits:?}");
        assert!(waits[1..].iter().all(|wait| *wait >= idle / 2), "{waits:?}");
        assert!(waits[4..].iter().all(|wait| *wait >= idle * 2), "{waits:?}");
    }
}
