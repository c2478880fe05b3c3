//! When to try again: soon at first, then ever later (rule 6).

use std::time::{Duration, Instant};

/// After the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// After many; kube-proxy's sync period.
const LAST: Duration = Duration::from_secs(30);
/// At most this long if there is something new to do besides: it must not wait for what fails.
const WITH_NEWS: Duration = Duration::from_secs(1);

/// A row of failures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// One more failure, at `now`.
    pub(super) fn fail(&mut self, now: Instant) {
        self.failures += 1;
        self.last = Some(now);
    }

    /// The row has ended.
    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// When to try again; `None` if nothing has failed.
    pub(super) fn find_next(&self, has_news: bool) -> Option<Instant> {
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = (FIRST * 2u32.pow(doublings)).min(LAST);
        Some(self.last? + if has_news { wait.min(WITH_NEWS) } else { wait })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(failures: u32, has_news: bool) -> Duration {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        (0..failures).for_each(|_| backoff.fail(now));
        backoff.find_next(has_news).unwrap() - now
    }

    #[test]
    fn it_waits_longer_each_time_up_to_the_sync_period() {
        assert_eq!(waits(1, false), Duration::from_millis(100));
        assert_eq!(waits(3, false), Duration::from_millis(400));
        assert_eq!(waits(50, false), Duration::from_secs(30));
    }

    #[test]
    fn news_do_not_wait_long_for_what_fails() {
        assert_eq!(waits(1, true), Duration::from_millis(100));
        assert_eq!(waits(50, true), Duration::from_secs(1));
    }

    #[test]
    fn success_ends_the_wait() {
        let mut backoff = Backoff::default();
        backoff.fail(Instant::now());
        backoff.succeed();
        assert_eq!(backoff.find_next(false), None);
    }
}
