//! What many noisy rounds say: medians of the rounds' ratios, with their spread.
//!
//! A machine that others use as well is slower in one minute than in the next. What is measured in one round,
//! interleaved, shares the minute: its ratios hold still where its figures do not.

use serde::{Deserialize, Serialize};

/// The middle of some measured values and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Half of the values are below it.
    pub median: f64,
    /// A quarter of the values is below the first, a quarter above the second.
    pub quartiles: [f64; 2],
    /// How many values there are.
    pub rounds: usize,
}

impl Summary {
    /// Of all values that are numbers; `None` if there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            quartiles: [quantile(&sorted, 0.25)?, quantile(&sorted, 0.75)?],
            rounds: sorted.len(),
        })
    }

    /// Of the ratios round by round: `above[i] / below[i]`.
    pub fn of_ratios(above: &[f64], below: &[f64]) -> Option<Self> {
        Self::of(above.iter().zip(below).map(|(above, below)| above / below))
    }

    /// Half the distance of the quartiles, as a part of the median.
    pub fn spread(&self) -> f64 {
        (self.quartiles[1] - self.quartiles[0]) / 2.0 / self.median
    }
}

/// The value that the part `q` of `sorted` lies below, between neighbours in proportion; `None` if there is none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list of measurements"
)]
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let place = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let part = place - place.floor();
    Some(sorted[below] * (1.0 - part) + sorted[above] * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_hold_still_when_the_whole_machine_slows_down() {
        let fast = [100.0, 50.0, 80.0, 20.0, 90.0];
        let slow = fast.map(|value| value / 2.0);
        let ratio = Summary::of_ratios(&slow, &fast).unwrap();
        assert_eq!(
            (ratio.median, ratio.quartiles, ratio.rounds),
            (0.5, [0.5, 0.5], 5)
        );
        assert_eq!(ratio.spread(), 0.0);
    }

    #[test]
    fn quantiles_lie_between_neighbours_and_nothing_has_none() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 5.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 5.0], 1.0), Some(5.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(Summary::of([f64::NAN, f64::INFINITY]), None);
    }
}
