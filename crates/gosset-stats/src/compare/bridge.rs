//! Brownian bridges: how the shares of the rows of a resample below several quantiles go together.

use libm::{cos, log};

use crate::weights;

/// A Brownian bridge over `(0, 1)`, a pure function of seed and key.
///
/// Formula: by halves (Lévy), `B(m) = (B(l) + B(h))/2 + √(h − l)/2·N_m` in the middle `m` of `l` and `h`, from
/// `B(0) = B(1) = 0` on, where `N_m` is a normal number of seed, key and middle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bridge {
    seed: u64,
    key: u64,
}

/// The width of the last halves, of the smaller of the shares on both sides. What is left out between them is below a
/// hundredth of the variance.
const FINEST: f64 = 1.0 / 64.0;

/// The most halves: more are not told apart by a number of rows.
const MOST_HALVES: u32 = 60;

impl Bridge {
    pub(super) fn new(seed: u64, key: u64) -> Self {
        Self { seed, key }
    }

    /// `B(q)/√(q(1 − q))`, a standard normal number: that of `q` whatever else is asked of the bridge, and correlated
    /// with that of a larger `r` by `√(q(1 − r)/(r(1 − q)))`.
    pub(super) fn score(self, q: f64) -> f64 {
        let finest = FINEST * q.min(1.0 - q);
        let (mut low, mut high) = (0.0, 1.0);
        let (mut at_low, mut at_high) = (0.0, 0.0);
        let mut middle = 1u64;
        for _ in 0..MOST_HALVES {
            let width: f64 = high - low;
            if width <= finest || q <= low {
                break;
            }
            let m = f64::midpoint(low, high);
            let at_m = f64::midpoint(at_low, at_high) + width.sqrt() / 2.0 * self.normal(middle);
            (low, at_low, high, at_high) =
                if q < m { (low, at_low, m, at_m) } else { (m, at_m, high, at_high) };
            middle = 2 * middle + u64::from(q >= m);
        }
        let share = (q - low) / (high - low);
        let between = share * (1.0 - share) * (high - low);
        (at_low + share * (at_high - at_low)) / (q * (1.0 - q) - between).sqrt()
    }

    /// A normal number (Box and Muller).
    fn normal(self, counter: u64) -> f64 {
        let block = weights::block(self.seed, self.key, counter);
        let [radius, angle] = *block.as_chunks::<8>().0 else {
            unreachable!("a block has two halves")
        };
        let uniform =
            |bits: [u8; 8]| ((u64::from_le_bytes(bits) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (-2.0 * log(uniform(radius))).sqrt() * cos(2.0 * std::f64::consts::PI * uniform(angle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGES: u64 = 40_000;

    fn scores(q: f64) -> Vec<f64> {
        (0..BRIDGES).map(|key| Bridge::new(7, key).score(q)).collect()
    }

    /// Moments of the standard normal law, and shares beyond some of its quantiles, within four standard errors.
    #[test]
    fn scores_are_normal() {
        let n = BRIDGES as f64;
        for q in [0.5, 0.25, 0.9, 0.999, 1e-6, 1.0 / 3.0] {
            let scores = scores(q);
            let moment = |k| scores.iter().map(|z| z.powi(k)).sum::<f64>() / n;
            for (k, expected, variance) in
                [(1, 0.0, 1.0), (2, 1.0, 2.0f64), (3, 0.0, 15.0), (4, 3.0, 96.0)]
            {
                let found = moment(k);
                assert!((found - expected).abs() < 4.0 * (variance / n).sqrt(), "{q} {k} {found}");
            }
            for (z, p) in [(-1.959_964, 0.025), (-0.674_490, 0.25), (0.0, 0.5), (2.326_348, 0.99)] {
                let share = scores.iter().filter(|&&score| score <= z).count() as f64 / n;
                assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / n).sqrt(), "{q} {z} {share}");
            }
        }
    }

    /// The correlation of a bridge is `√(q(1 − r)/(r(1 − q)))`: its estimate has a standard error of `(1 − ρ²)/√n`.
    #[test]
    fn scores_are_correlated_as_those_of_a_bridge() {
        for (q, r) in [
            (0.25, 0.5),
            (0.1, 0.9),
            (0.5, 0.9),
            (0.9, 0.95),
            (0.98, 0.99),
            (0.3, 0.31),
            (1e-4, 2e-4),
        ] {
            let products = scores(q).into_iter().zip(scores(r)).map(|(a, b)| a * b);
            let found = products.sum::<f64>() / BRIDGES as f64;
            let expected: f64 = (q * (1.0 - r) / (r * (1.0 - q))).sqrt();
            // Of the mean of products: √((1 + ρ²)/n), and what is left out between halves.
            let error = 4.0 * ((1.0 + expected * expected) / BRIDGES as f64).sqrt() + 0.004;
            assert!((found - expected).abs() < error, "{q} {r}: {found}, not {expected}");
        }
    }
}
