//! How much may be asked of the API server: a token bucket, as client-go's `--kube-api-qps` and burst.
//!
//! Whoever takes a token that is not there yet has it reserved and waits for it, so that all are served in
//! the order in which they came.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

/// A bucket of requests.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens a second; `None`: no bound.
    rate: Option<f64>,
    burst: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Below 0: so many are waited for.
    tokens: f64,
    at: Instant,
}

impl Pace {
    /// A full bucket of `burst` (at least 1) requests that fills up with `qps` a second.
    pub(super) fn new(qps: f32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        let state = State {
            tokens: burst,
            at: Instant::now(),
        };
        Self {
            rate: (qps > 0.0 && qps.is_finite()).then_some(f64::from(qps)),
            burst,
            state: Mutex::new(state),
        }
    }

    /// Returns when a request may be made.
    pub(super) async fn take(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a token and says how long to wait for it.
    fn reserve(&self, now: Instant) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.tokens = (state.tokens + passed * rate).min(self.burst) - 1.0;
        state.at = now;
        Duration::try_from_secs_f64(-state.tokens / rate).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let pace = Pace::new(5.0, 10);
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(pace.reserve(now), Duration::ZERO);
        }
        assert_eq!(pace.reserve(now), Duration::from_millis(200));
        assert_eq!(pace.reserve(now), Duration::from_millis(400));
        let later = now + Duration::from_secs(60);
        for _ in 0..10 {
            assert_eq!(pace.reserve(later), Duration::ZERO);
        }
        assert_eq!(
            pace.reserve(later),
            Duration::from_millis(200),
            "a long pause earns one burst, not more"
        );
    }

    #[test]
    fn a_rate_of_zero_is_no_bound() {
        let pace = Pace::new(0.0, 1);
        let now = Instant::now();
        assert!((0..100).all(|_| pace.reserve(now).is_zero()));
    }
}
