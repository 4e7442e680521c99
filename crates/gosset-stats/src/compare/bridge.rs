//! Brownian bridges: how the shares of the rows of a resample below several quantiles go together.

use libm::{cos, log, sin};

use super::kept::{Kept, Shared};
use crate::{dist, weights};

/// For every replicate of both arms a number that is uniform on (0, 1), control first: a pure function of seed, replicate
/// and `q`. The normal scores of those of several `q` are the values of a Brownian bridge, `B(q)/√(q(1 − q))`: at `q < r`
/// they are correlated by `√(q(1 − r)/(r(1 − q)))`, as the numbers of rows of a resample below the two quantiles are.
pub(super) fn uniforms(seed: u64, q: f64, replicates: u32) -> Uniforms {
    let of =
        |replicate: u32| Bridges { seed, replicate }.scores(q).map(|score| dist::normal_sf(-score));
    let make = || (0..replicates).map(of).collect();
    match replicates <= MOST_KEPT {
        true => Uniforms::Kept(KEPT.get((seed, q.to_bits(), replicates), make)),
        false => Uniforms::Own(make()),
    }
}

/// See [`uniforms`].
pub(super) enum Uniforms {
    Kept(Shared<Vec<[f64; 2]>>),
    Own(Vec<[f64; 2]>),
}

impl std::ops::Deref for Uniforms {
    type Target = [[f64; 2]];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Kept(kept) => kept,
            Self::Own(own) => own,
        }
    }
}

/// By seed, quantile and replicates.
static KEPT: Kept<(u64, u64, u32), Vec<[f64; 2]>> = Kept::new(256);

/// The most replicates that are kept: of all that are, 16 MiB.
const MOST_KEPT: u32 = 4096;

/// Two independent Brownian bridges over `(0, 1)`.
///
/// Formula: between points `l` and `h` where they are known, from `B(0) = B(1) = 0` on, the value in `m` is that of the
/// straight line plus `√((m − l)(h − m)/(h − l))·N_m` (Lévy), where `N_m` is a normal number of seed, replicate and `m`.
/// The points are those of tenths, then hundredths and so on, in the order of a binary search for `q`: a quantile of few
/// decimals is soon one of them.
#[derive(Debug, Clone, Copy)]
struct Bridges {
    seed: u64,
    replicate: u32,
}

/// Where the search ends if no point is `q`: with points apart by this part of the smaller of the shares on both sides.
/// What a straight line between them leaves out is below a hundredth of the variance.
const FINEST: f64 = 1.0 / 64.0;

/// Nor are points finer than this: a double tells no more of them apart.
const MOST_PARTS: u64 = 1_000_000_000_000_000;

impl Bridges {
    /// `B(q)/√(q(1 − q))`, standard normal numbers: those of `q` whatever else is asked.
    fn scores(self, q: f64) -> [f64; 2] {
        let finest = FINEST * q.min(1.0 - q);
        let (mut low, mut high, mut parts) = (0u64, 10u64, 10u64);
        let (mut at_low, mut at_high) = ([0.0; 2], [0.0; 2]);
        loop {
            let point = |of: u64| of as f64 / parts as f64;
            let (l, h) = (point(low), point(high));
            if q <= l || h - l <= finest || parts >= MOST_PARTS {
                let share = (q - l) / (h - l);
                let variance = q * (1.0 - q) - share * (1.0 - share) * (h - l);
                let line = |arm: usize| at_low[arm] + share * (at_high[arm] - at_low[arm]);
                return [0, 1].map(|arm| line(arm) / variance.sqrt());
            }
            if high - low == 1 {
                (low, high, parts) = (10 * low, 10 * high, 10 * parts);
                continue;
            }
            let middle = u64::midpoint(low, high);
            let m = point(middle);
            let share = (m - l) / (h - l);
            let (noise, size) = (self.normals(m), (share * (h - m)).sqrt());
            let at = [0, 1]
                .map(|arm| at_low[arm] + share * (at_high[arm] - at_low[arm]) + size * noise[arm]);
            if q < m {
                (high, at_high) = (middle, at);
            } else {
                (low, at_low) = (middle, at);
            }
        }
    }

    /// Two normal numbers of a point (Box and Muller).
    fn normals(self, point: f64) -> [f64; 2] {
        let block = weights::block(self.seed, self.replicate.into(), point.to_bits());
        let [radius, angle] = *block.as_chunks::<8>().0 else {
            unreachable!("a block has two halves")
        };
        let uniform =
            |bits: [u8; 8]| ((u64::from_le_bytes(bits) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let radius = (-2.0 * log(uniform(radius))).sqrt();
        let angle = 2.0 * std::f64::consts::PI * uniform(angle);
        [radius * cos(angle), radius * sin(angle)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICATES: u32 = 40_000;

    fn scores(q: f64) -> Vec<[f64; 2]> {
        (0..REPLICATES).map(|replicate| Bridges { seed: 7, replicate }.scores(q)).collect()
    }

    /// Moments of the standard normal law, and shares below some of its quantiles, within four standard errors.
    #[test]
    fn scores_are_normal() {
        let n = f64::from(REPLICATES);
        for q in [0.5, 0.25, 0.9, 0.999, 1e-6, 1.0 / 3.0] {
            let of_arms = scores(q);
            for arm in [0, 1] {
                let scores: Vec<f64> = of_arms.iter().map(|scores| scores[arm]).collect();
                for (k, expected, variance) in
                    [(1, 0.0, 1.0), (2, 1.0, 2.0f64), (3, 0.0, 15.0), (4, 3.0, 96.0)]
                {
                    let found = scores.iter().map(|z| z.powi(k)).sum::<f64>() / n;
                    let error = 4.0 * (variance / n).sqrt();
                    assert!((found - expected).abs() < error, "{q} {arm} {k} {found}");
                }
                for (z, p) in
                    [(-1.959_964, 0.025), (-0.674_490, 0.25), (0.0, 0.5), (2.326_348, 0.99)]
                {
                    let share = scores.iter().filter(|&&score| score <= z).count() as f64 / n;
                    let error = 4.0 * (p * (1.0 - p) / n).sqrt();
                    assert!((share - p).abs() < error, "{q} {arm} {z} {share}");
                }
            }
        }
    }

    /// The correlation of a bridge is `√(q(1 − r)/(r(1 − q)))`; that of the arms is none.
    #[test]
    fn scores_are_correlated_as_those_of_a_bridge() {
        let n = f64::from(REPLICATES);
        let pairs = [
            (0.25, 0.5),
            (0.1, 0.9),
            (0.5, 0.9),
            (0.9, 0.95),
            (0.98, 0.99),
            (0.3, 0.31),
            (1.0 / 3.0, 2.0 / 3.0),
            (0.123_456, 0.2),
            (1e-4, 2e-4),
        ];
        for (q, r) in pairs {
            let (of_q, of_r) = (scores(q), scores(r));
            let correlation = |arm: usize, other: usize| {
                of_q.iter().zip(&of_r).map(|(a, b)| a[arm] * b[other]).sum::<f64>() / n
            };
            let expected: f64 = (q * (1.0 - r) / (r * (1.0 - q))).sqrt();
            // Of a mean of products: √((1 + ρ²)/n), and what a straight line leaves out.
            let error = |rho: f64| 4.0 * ((1.0 + rho * rho) / n).sqrt() + 0.004;
            for arm in [0, 1] {
                let found = correlation(arm, arm);
                assert!((found - expected).abs() < error(expected), "{q} {r}: {found}");
                let found = correlation(arm, 1 - arm);
                assert!(found.abs() < error(0.0), "{q} {r}: {found} between arms");
            }
        }
    }

    #[test]
    fn numbers_that_are_kept_are_those_that_are_made() {
        let few = uniforms(3, 0.9, 100);
        let many = uniforms(3, 0.9, MOST_KEPT + 1);
        assert_eq!(few[..], many[..100]);
        assert_eq!(few[..], uniforms(3, 0.9, 100)[..]);
        assert_ne!(few[..], uniforms(4, 0.9, 100)[..]);
    }
}
