//! Several differences at once: bands that hold all of them, and p-values adjusted for their number.

use super::bootstrap::{BootstrapOptions, Interval, LEAST_UNITS};
use super::draws::{Deviations, Ends};
use super::effect::Effect;
use super::metric::Metric;
use crate::Result;
use crate::inference::Inference;
use crate::summary::{Buckets, Columns, Replicates};

/// One of several effects that are looked at together.
#[derive(Debug, Clone, PartialEq)]
pub struct Banded {
    /// The effect as if it were the only one.
    pub effect: Effect,
    /// The ends of the simultaneous band over all effects.
    pub band: Option<(f64, f64)>,
    /// The p-value adjusted for all effects.
    pub p_adjusted: Option<f64>,
}

/// The bootstraps of the differences of several means per row or ratios of sums, with joint replicates of buckets of units
/// and a simultaneous band.
///
/// A pair of outcomes whose names end with [`NUMERATOR`](crate::summary::moments::NUMERATOR) and
/// [`DENOMINATOR`](crate::summary::moments::DENOMINATOR) is one ratio; every other outcome is a mean per row.
///
/// Formula: every metric as in [`bootstrap`](super::bootstrap). With the standard deviations `ŝe_j` of
/// the replicates `Δ*_j` of the metrics, the band is `Δ̂_j ± m·ŝe_j`, where `m` is the `k`-th largest of
/// `max_j |Δ*_bj − Δ̂_j|/ŝe_j` for `k = ⌊(B + 1)α⌋`, and `p_adjusted = (1 + #{b: max_j ≥ |Δ̂_j|/ŝe_j})/(B + 1)`: the band
/// holds all differences at once with the confidence, and rejecting where `p_adjusted ≤ α` makes any false rejection with
/// probability α (the single-step max-t of Westfall and Young). It is shorter than Bonferroni's where metrics are
/// correlated, since the replicates know how. The band is two-sided whatever the alternative.
///
/// Metrics without variance, or without a finite value, have no band and take no part in the maximum.
///
/// Small samples: as [`bootstrap`](super::bootstrap).
///
/// # Errors
/// As [`bootstrap`](super::bootstrap), for any number of outcomes.
///
/// # References
/// Westfall and Young (1993), Resampling-based multiple testing, Wiley. Romano and Wolf (2005), Exact and approximate
/// stepdown methods for multiple hypothesis testing, Journal of the American Statistical Association 100(469), 94–108,
/// doi:10.1198/016214504000000539.
pub fn bootstrap_effects(
    t: &Buckets,
    c: &Buckets,
    inference: &Inference,
    options: &BootstrapOptions,
) -> Result<Vec<(String, Banded)>> {
    options.check()?;
    let method = format!("bootstrap {}", options.interval.name());
    let empty = Effect::of_buckets((t, c), inference, &method)?;
    by_metric(t.columns(), &empty, inference, |metric, effect| {
        let clustered = effect.cluster((t, c), metric, LEAST_UNITS);
        let infer = |clustered| effect.infer_clusters((t, c), &clustered, inference, options);
        Ok(clustered.map(infer).unwrap_or_default())
    })
}

/// As [`bootstrap_effects`], from stored replicates of units: every metric as in
/// [`bootstrap_replicates`](super::bootstrap_replicates).
///
/// # Errors
/// As [`bootstrap_replicates`](super::bootstrap_replicates), for any number of outcomes.
pub fn bootstrap_replicates_effects(
    t: &Replicates,
    c: &Replicates,
    inference: &Inference,
    interval: Interval,
) -> Result<Vec<(String, Banded)>> {
    let empty = Effect::of_replicates((t, c), inference, interval, "")?;
    let (totals_t, totals_c) = (t.totals(), c.totals());
    by_metric(t.columns(), &empty, inference, |metric, effect| {
        let ends = Ends::of_replicates((t, c), metric, interval, effect)?;
        let totals = (&totals_t, &totals_c);
        Ok(effect.infer_replicates((t, c), totals, metric, (inference, &ends)))
    })
}

/// The metrics of the columns by name, each inferred into an effect of its own, with their bands.
fn by_metric(
    columns: &Columns,
    empty: &Effect,
    inference: &Inference,
    infer: impl Fn(Metric, &mut Effect) -> Result<Deviations>,
) -> Result<Vec<(String, Banded)>> {
    let (names, metrics): (Vec<_>, Vec<_>) = Metric::all(columns).into_iter().unzip();
    let effects = metrics.into_iter().map(|metric| {
        let mut effect = empty.clone();
        let deviations = infer(metric, &mut effect)?;
        Ok((effect, deviations))
    });
    let effects = effects.collect::<Result<Vec<_>>>()?;
    Ok(names.into_iter().zip(with_bands(effects, inference.confidence)).collect())
}

/// Effects with the bands that their joint replicates give.
pub(super) fn with_bands(
    effects: impl IntoIterator<Item = (Effect, Deviations)>,
    confidence: f64,
) -> Vec<Banded> {
    let (effects, deviations): (Vec<_>, Vec<_>) = effects.into_iter().unzip();
    let estimates: Vec<Option<f64>> = effects.iter().map(|effect| effect.estimate).collect();
    let bands = bands(&estimates, &deviations, confidence);
    effects
        .into_iter()
        .zip(bands)
        .map(|(effect, band)| Banded { effect, band: band.ends, p_adjusted: band.p_adjusted })
        .collect()
}

/// What holds for all differences at once.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) ends: Option<(f64, f64)>,
    pub(super) p_adjusted: Option<f64>,
}

/// The simultaneous bands of differences with joint replicates.
fn bands(estimates: &[Option<f64>], deviations: &[Deviations], confidence: f64) -> Vec<Band> {
    let scale = |d: &Deviations| d.std_error.filter(|se| se.is_finite() && *se > 0.0);
    let used: Vec<(f64, &Vec<Option<f64>>)> =
        deviations.iter().filter_map(|d| Some((scale(d)?, &d.draws))).collect();
    let count = used.first().map_or(0, |(_, draws)| draws.len());
    let mut largest: Vec<f64> = (0..count)
        .filter_map(|b| {
            used.iter().try_fold(0.0f64, |largest, (std_error, draws)| {
                Some(largest.max(draws[b]?.abs() / std_error))
            })
        })
        .collect();
    largest.sort_unstable_by(f64::total_cmp);
    let total = largest.len() as f64 + 1.0;
    let k = ((1.0 - confidence) * total + 1e-9) as usize;
    let band = |(i, estimate): (usize, &Option<f64>)| {
        let scaled = estimate.zip(deviations.get(i).and_then(scale));
        let reached = |(estimate, std_error): (f64, f64)| {
            let below = largest.partition_point(|&m| m < estimate.abs() / std_error);
            (1.0 + (largest.len() - below) as f64) / total
        };
        let ends = |(estimate, std_error): (f64, f64)| {
            let reach = largest[largest.len() - k] * std_error;
            (estimate - reach, estimate + reach)
        };
        Band {
            ends: scaled.filter(|_| k > 0 && k <= largest.len()).map(ends),
            p_adjusted: scaled.filter(|_| !largest.is_empty()).map(reached),
        }
    };
    estimates.iter().enumerate().map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::moments::Columns;
    use crate::summary::{ReplicatesTable, Resampling, Rows, Table};
    use crate::units;

    /// Means of three metrics, two of them nearly one; all without an effect.
    fn arm(experiment: i128, arm: i128, n: i128) -> Replicates {
        let names = ["a", "b", "c"].map(String::from);
        let columns = Columns::new(names, 3).expect("valid columns");
        let resampling =
            Resampling { replicates: 399, seed: experiment as u64, ..Resampling::default() };
        let mut table = ReplicatesTable::new(columns, resampling).expect("valid resampling");
        table.resize(1);
        let first = (2 * experiment + arm) * n;
        let ids: Vec<u128> = (first..first + n).map(units::integer).collect();
        let uniform = |i: i128, k: i128| {
            let hash = units::integer(i + (k << 80));
            ((hash >> 75) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let of = |k: i128| -> Vec<f64> { (first..first + n).map(|i| uniform(i, k)).collect() };
        let (a, noise, c) = (of(1), of(2), of(3));
        let b: Vec<f64> = a.iter().zip(&noise).map(|(a, e)| a + 0.1 * e).collect();
        let slots = vec![0; ids.len()];
        table.update(Rows {
            slots: &slots,
            columns: &[&a, &b, &c],
            missing: &[None, None, None],
            units: &ids,
            ..Rows::default()
        });
        table.get(0)
    }

    /// All bands at once hold the truth in 95 of 100 experiments, while some pointwise interval misses it in about 10.
    #[test]
    fn bands_hold_all_differences_at_once() {
        let experiments = 400;
        let (mut held, mut pointwise, mut rejected) = (0, 0, 0);
        for experiment in 0..experiments {
            let (t, c) = (arm(experiment, 0, 120), arm(experiment, 1, 120));
            let all =
                bootstrap_replicates_effects(&t, &c, &Inference::default(), Interval::Percentile);
            let all = all.expect("valid");
            let holds = |band: Option<(f64, f64)>| {
                let (low, high) = band.expect("a band");
                low <= 0.0 && 0.0 <= high
            };
            held += usize::from(all.iter().all(|(_, m)| holds(m.band)));
            pointwise += usize::from(
                all.iter().all(|(_, m)| holds(m.effect.ci_lower.zip(m.effect.ci_upper))),
            );
            rejected +=
                usize::from(all.iter().any(|(_, m)| m.p_adjusted.expect("defined") <= 0.05));
            for (_, m) in &all {
                assert!(m.p_adjusted >= m.effect.p_value.map(|p| p / 2.0), "{m:?}");
            }
        }
        let share = |count: usize| count as f64 / experiments as f64;
        let band = 4.0 * (0.05 * 0.95 / experiments as f64).sqrt();
        assert!((share(held) - 0.95).abs() < band, "{held}");
        assert!((share(rejected) - 0.05).abs() < band, "{rejected}");
        assert!(share(pointwise) < 0.93, "{pointwise}");
    }

    #[test]
    fn metrics_without_variance_take_no_part() {
        let estimates = [Some(1.0), Some(0.0), None];
        let deviations = [
            Deviations { std_error: Some(0.5), draws: vec![Some(0.5), Some(-1.0), None] },
            Deviations { std_error: Some(0.0), draws: vec![Some(0.0); 3] },
            Deviations { std_error: None, draws: Vec::new() },
        ];
        let found = bands(&estimates, &deviations, 0.5);
        // Two replicates of |t| 1 and 2: k = 1, and the larger one reaches 2.
        assert_eq!(found[0].ends, Some((0.0, 2.0)));
        assert_eq!(found[0].p_adjusted, Some(2.0 / 3.0));
        assert!(found[1].ends.is_none() && found[2].p_adjusted.is_none());
    }
}
