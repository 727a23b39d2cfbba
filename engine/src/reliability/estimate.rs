//! An annotator's reliability as a number with its uncertainty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known about how often an annotator is right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reliability {
    /// Expected share of correct labels.
    pub accuracy: f64,
    /// Variance of that share: the remaining uncertainty.
    pub variance: f64,
    /// Lower end of the central 95 % credible interval.
    pub low: f64,
    /// Upper end of the central 95 % credible interval.
    pub high: f64,
    /// Labels of the annotator, including those on gold items.
    pub labels: u64,
    /// Labels on gold items.
    pub gold_labels: u64,
    /// Correct labels on gold items.
    pub gold_right: u64,
}

impl Reliability {
    /// From the first two moments of the accuracy, by the beta distribution that has them.
    pub(super) fn new(accuracy: f64, variance: f64, labels: u64, gold: (u64, u64)) -> Self {
        let (low, high) = interval(accuracy, variance);
        Self {
            accuracy,
            variance,
            low,
            high,
            labels,
            gold_labels: gold.0,
            gold_right: gold.1,
        }
    }
}

fn interval(mean: f64, variance: f64) -> (f64, f64) {
    let spread = mean * (1.0 - mean);
    if !(spread > 0.0 && variance > 0.0 && variance < spread) {
        return (mean, mean);
    }
    let size = spread / variance - 1.0;
    let (a, b) = (mean * size, (1.0 - mean) * size);
    (quantile(0.025, a, b), quantile(0.975, a, b))
}

/// Quantile of the beta distribution: bisection, 60 halvings of [0, 1].
fn quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if beta_cdf(middle, a, b) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Regularised incomplete beta function by its continued fraction (Abramowitz and Stegun, 26.5.8).
#[expect(clippy::many_single_char_names, reason = "the symbols of the formula")]
fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side of the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_cdf(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    // Lentz's method.
    let tiny = 1e-300;
    let guard = |value: f64| if value.abs() < tiny { tiny } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..400_u32 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        fraction *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < 1e-14 {
            break;
        }
    }
    (front * fraction / a).clamp(0.0, 1.0)
}

/// Logarithm of the gamma function for positive arguments: recurrence up to 10, then Stirling's
/// series.
fn ln_gamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 10.0 {
        below += x.ln();
        x += 1.0;
    }
    let (i, i2) = (1.0 / x, 1.0 / (x * x));
    let series = i
        * (1.0 / 12.0
            - i2 * (1.0 / 360.0 - i2 * (1.0 / 1260.0 - i2 * (1.0 / 1680.0 - i2 / 1188.0))));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_quantiles_are_those_of_tables() {
        // R: qbeta(c(0.025, 0.975), 8, 3)
        assert!((quantile(0.025, 8.0, 3.0) - 0.443_904_6).abs() < 1e-6);
        assert!((quantile(0.975, 8.0, 3.0) - 0.933_260_5).abs() < 1e-6);
        // The uniform distribution, and a symmetric one.
        assert!((quantile(0.3, 1.0, 1.0) - 0.3).abs() < 1e-9);
        assert!((quantile(0.5, 500.0, 500.0) - 0.5).abs() < 1e-9);
        // beta(2, 1) has distribution function x^2.
        assert!((beta_cdf(0.7, 2.0, 1.0) - 0.49).abs() < 1e-10);
    }

    #[test]
    fn an_interval_holds_its_mean_and_shrinks_with_the_variance() {
        let (low, high) = interval(0.8, 0.01);
        assert!(low < 0.8 && 0.8 < high);
        let (nearer, _) = interval(0.8, 0.001);
        assert!(nearer > low);
        assert_eq!(interval(1.0, 0.0), (1.0, 1.0));
    }
}
