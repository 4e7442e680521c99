//! Differences of quantiles.

use super::bootstrap::{Interval, LEAST_UNITS};
use super::draws::{Draws, Ends};
use super::effect::{Effect, Inference};
use super::infer::check_outcomes;
use super::simultaneous::{Deviations, bands};
use crate::summary::{Bin, Histogram, Resampling};
use crate::{Error, Result, weights};

/// What is asked of a bootstrap of quantiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileOptions {
    /// Which quantile, in (0, 1).
    pub q: f64,
    /// How the interval is made: percentile, basic or normal.
    pub interval: Interval,
    /// How many replicates, for histograms of rows: those of units have theirs.
    pub replicates: u32,
    /// The seed, for histograms of rows.
    pub seed: u64,
}

impl Default for QuantileOptions {
    fn default() -> Self {
        let Resampling { replicates, seed, .. } = Resampling::default();
        Self { q: 0.5, interval: Interval::Percentile, replicates, seed }
    }
}

/// The bootstrap of a difference of quantiles, `Q_t(q) − Q_c(q)`.
///
/// Formula: the `q`-quantile of an arm is the value at which the rows in ascending order reach the share `q`; where they
/// reach it between two values, the mean of both (definition 2 of Hyndman and Fan). In a bin of several values it is
/// interpolated between the smallest and the largest of them.
///
/// * Histograms of rows, where rows are independent units: the index of the quantile in a Poisson resample is about
///   binomial, so that a replicate is `y_(I)` with `I ~ Binomial(n + 1, q)` in each arm and nothing is resampled.
/// * Histograms of units, with many rows each: the quantile of the rows weighted by the replicate's weights of their
///   units.
///
/// `std_error`, percentile, basic and normal intervals and p-values are made of the replicates as in
/// [`bootstrap`](super::bootstrap). `mean_*` are the two quantiles, and `relative` is over that of control.
///
/// Assumptions: a continuous distribution around the quantile. On few distinct values the replicates fall on one value
/// or jump between two, and the interval is too short or too long. Extremes (`q·n` or `(1 − q)·n` below about 5) are no
/// quantiles that a bootstrap knows anything about.
///
/// Small samples: without rows in an arm there is no estimate; with fewer than 5 rows or units in an arm, with fewer than
/// five rows beyond the quantile on either side, or where all replicates agree, there is no test and no interval, and
/// `note` says why. Values that are not finite give NaN.
///
/// # Errors
/// [`Error::Mismatch`] for histograms of different columns or resampling, [`Error::Invalid`] for `q` or a confidence
/// outside of (0, 1), and for intervals that take totals of units.
///
/// # References
/// Schultzberg and Ankargren (2022), Resampling-free bootstrap inference for quantiles, arXiv:2202.10992. Hyndman and Fan
/// (1996), Sample quantiles in statistical packages, American Statistician 50(4), 361–365,
/// doi:10.1080/00031305.1996.10473566.
pub fn bootstrap_quantile(
    t: &Histogram,
    c: &Histogram,
    inference: &Inference,
    options: &QuantileOptions,
) -> Result<Effect> {
    let (mut effect, pairs) = Effect::of_quantiles((t, c), inference, &[options.q], options)?;
    let ends = match options.interval {
        Interval::Percentile => Ends::Percentile,
        Interval::Basic => Ends::Basic,
        Interval::Normal => Ends::Normal,
        other => {
            return Err(Error::Invalid(format!(
                "expected a percentile, basic or normal interval of quantiles, found '{}'",
                other.name()
            )));
        }
    };
    if let Some(pair) = pairs.first() {
        effect.infer_pair(inference, &ends, pair);
        if effect.std_error == Some(0.0) {
            effect.note = None;
            effect.remark("zero variance: all replicates of the quantile agree");
        }
    }
    Ok(effect)
}

/// One point of the difference of two quantile functions.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantileEffect {
    /// Which quantile.
    pub q: f64,
    /// The quantiles of the arms.
    pub control: Option<f64>,
    /// The quantile of treatment.
    pub treatment: Option<f64>,
    /// Treatment − control.
    pub estimate: Option<f64>,
    /// Standard deviation of the replicates.
    pub std_error: Option<f64>,
    /// Pointwise percentile interval.
    pub ci_lower: Option<f64>,
    /// Its upper end.
    pub ci_upper: Option<f64>,
    /// Simultaneous band over all points.
    pub band_lower: Option<f64>,
    /// Its upper end.
    pub band_upper: Option<f64>,
    /// The p-value of the point, by its percentile interval.
    pub p_value: Option<f64>,
    /// The p-value of the point by the band: adjusted for all points.
    pub p_adjusted: Option<f64>,
}

/// The difference of two quantile functions over a grid, with pointwise intervals and a simultaneous band.
///
/// Formula: replicates as in [`bootstrap_quantile`], joint over the grid. With `ŝe(q)` the standard deviation of `Δ*(q)`,
/// the band is `Δ̂(q) ± m·ŝe(q)`, where `m` is the `k`-th largest of `max_q |Δ*_b(q) − Δ̂(q)|/ŝe(q)` for
/// `k = ⌊(B + 1)α⌋`, and `p_adjusted = (1 + #{b: max_q ≥ |Δ̂(q)|/ŝe(q)})/(B + 1)`: the band holds the whole difference with
/// the confidence, and `p_adjusted` below α somewhere is a test that the distributions are the same at level α. Points
/// whose replicates all agree have no band of their own and take no part in the maximum.
///
/// The band is two-sided whatever the alternative, which pointwise intervals follow.
///
/// # Errors
/// As [`bootstrap_quantile`]; [`Error::Invalid`] for an empty grid.
///
/// # References
/// Chernozhukov, Fernández-Val and Melly (2013), Inference on counterfactual distributions, Econometrica 81(6), 2205–2268,
/// doi:10.3982/ECTA10582.
pub fn quantile_effects(
    t: &Histogram,
    c: &Histogram,
    inference: &Inference,
    grid: &[f64],
    options: &QuantileOptions,
) -> Result<Vec<QuantileEffect>> {
    if grid.is_empty() {
        return Err(Error::Invalid("expected at least one quantile, found none".into()));
    }
    let mut points = Vec::with_capacity(grid.len());
    let mut pairs = Vec::with_capacity(grid.len());
    let (empty, all) = Effect::of_quantiles((t, c), inference, grid, options)?;
    for (i, &q) in grid.iter().enumerate() {
        let mut effect = empty.clone();
        if let Some(pair) = all.get(i) {
            effect.infer_pair(inference, &Ends::Percentile, pair);
            pairs.push(Deviations { std_error: effect.std_error, draws: pair.deviations() });
        }
        points.push(QuantileEffect {
            q,
            control: effect.mean_control,
            treatment: effect.mean_treatment,
            estimate: effect.estimate,
            std_error: effect.std_error,
            ci_lower: effect.ci_lower,
            ci_upper: effect.ci_upper,
            p_value: effect.p_value,
            band_lower: None,
            band_upper: None,
            p_adjusted: None,
        });
    }
    let estimates: Vec<Option<f64>> = points.iter().map(|point| point.estimate).collect();
    for (point, band) in points.iter_mut().zip(bands(&estimates, &pairs, inference.confidence)) {
        (point.band_lower, point.band_upper) = band.ends.unzip();
        point.p_adjusted = band.p_adjusted;
    }
    Ok(points)
}

/// Two quantiles with their replicates, of which there are none where there is nothing to infer.
#[derive(Debug)]
struct Pair {
    treatment: f64,
    control: f64,
    t: Vec<Option<f64>>,
    c: Vec<Option<f64>>,
}

impl Pair {
    fn estimate(&self) -> f64 {
        self.treatment - self.control
    }

    /// `Δ* − Δ̂` of every replicate.
    fn deviations(&self) -> Vec<Option<f64>> {
        let pairs = self.t.iter().zip(&self.c);
        pairs.map(|(t, c)| Some((*t)? - (*c)? - self.estimate())).collect()
    }
}

impl Effect {
    /// Sets the quantiles of a pair and, if it has replicates, the inference.
    fn infer_pair(&mut self, inference: &Inference, ends: &Ends, pair: &Pair) {
        (self.mean_treatment, self.mean_control) = (Some(pair.treatment), Some(pair.control));
        if pair.t.is_empty() {
            return self.set_estimate(pair.estimate(), pair.control);
        }
        let shifts = pair.t.iter().zip(&pair.c);
        let shifts =
            shifts.map(|(t, c)| (t.map(|t| t - pair.treatment), c.map(|c| c - pair.control)));
        self.infer_draws(inference, ends, Draws::new(pair.estimate(), pair.control, shifts));
    }

    /// An effect between quantiles with its counts, and the quantiles, of which there are none without rows and where
    /// values are not finite.
    fn of_quantiles(
        (t, c): (&Histogram, &Histogram),
        inference: &Inference,
        grid: &[f64],
        options: &QuantileOptions,
    ) -> Result<(Self, Vec<Pair>)> {
        check_outcomes(t.columns().len(), 1)?;
        grid.iter().try_for_each(|&q| check_q(q))?;
        if t.resampling() != c.resampling() {
            return Err(Error::Mismatch(
                "expected two histograms of the same resampling, found others for treatment and control".into(),
            ));
        }
        let law = t.resampling().map_or("binomial", |r| r.law.name());
        let method = format!("bootstrap quantile {law} {}", options.interval.name());
        let mut effect = Self::of_arms(t, c, inference, &method)?;
        effect.remark_uncounted("replicates");
        let error = t.relative_error().max(c.relative_error());
        if error > 0.0 {
            effect.remark(format!("values are binned to a relative error of {error}"));
        }
        if effect.lacks_rows() {
            return Ok((effect, Vec::new()));
        }
        if t.not_finite() + c.not_finite() > 0 {
            effect.set_not_finite();
            return Ok((effect, Vec::new()));
        }
        let beyond = |rows: u64| {
            grid.iter().all(|q| q.min(1.0 - q) * rows as f64 >= LEAST_UNITS as f64 / 2.0)
        };
        let few_units = effect.lacks_known_units((t.units(), c.units()), LEAST_UNITS);
        let few_rows = !(few_units || beyond(t.rows()) && beyond(c.rows()));
        if few_rows {
            effect.remark("too few rows beyond the quantile for an interval");
        }
        let drawn = |arm: &Histogram, number: u64| match few_units || few_rows {
            true => Ok(vec![Vec::new(); grid.len()]),
            false => replicates(arm, grid, options, number),
        };
        let (drawn_t, drawn_c) = (drawn(t, 1)?, drawn(c, 0)?);
        let (bins_t, bins_c) = (t.bins(), c.bins());
        let pairs = grid.iter().zip(drawn_t.into_iter().zip(drawn_c));
        let pairs = pairs.map(|(&q, (t, c))| Pair {
            treatment: quantile(&bins_t, q),
            control: quantile(&bins_c, q),
            t,
            c,
        });
        Ok((effect, pairs.collect()))
    }
}

/// A quantile of a histogram as [`bootstrap_quantile`] defines it; `None` without rows, NaN where a value is not finite.
///
/// # Errors
/// [`Error::Invalid`] for `q` outside of (0, 1).
pub fn histogram_quantile(histogram: &Histogram, q: f64) -> Result<Option<f64>> {
    check_q(q)?;
    Ok(match histogram.rows() {
        0 => None,
        _ if histogram.not_finite() > 0 => Some(f64::NAN),
        _ => Some(quantile(&histogram.bins(), q)),
    })
}

fn check_q(q: f64) -> Result<()> {
    if q > 0.0 && q < 1.0 {
        return Ok(());
    }
    Err(Error::Invalid(format!("expected a quantile between 0 and 1, exclusive; found {q}")))
}

/// The quantile of bins in ascending order.
fn quantile(bins: &[Bin], q: f64) -> f64 {
    let rows: u64 = bins.iter().map(|bin| bin.rows).sum();
    let mut search = Search::new(q, rows as f64);
    bins.iter().for_each(|bin| search.pass(bin, bin.rows as f64));
    search.found.unwrap_or(f64::NAN)
}

/// The search for the value at which a share of the weight is reached.
#[derive(Debug, Clone)]
struct Search {
    target: f64,
    passed: f64,
    /// Reached right at the end of a bin: the mean of it and of the next one.
    edge: Option<f64>,
    found: Option<f64>,
}

impl Search {
    fn new(q: f64, total: f64) -> Self {
        Self { target: q * total, passed: 0.0, edge: None, found: None }
    }

    #[inline]
    fn pass(&mut self, bin: &Bin, weight: f64) {
        if weight == 0.0 || self.found.is_some() {
            return;
        }
        if let Some(edge) = self.edge {
            self.found = Some(edge / 2.0 + bin.min / 2.0);
            return;
        }
        let before = self.passed;
        self.passed += weight;
        // The share of a number of rows is rounded.
        let fuzz = 4.0 * f64::EPSILON * self.target;
        if (self.passed - self.target).abs() <= fuzz {
            self.edge = Some(bin.max);
        } else if self.passed > self.target {
            self.found = Some(bin.at((self.target - before) / weight));
        }
    }
}

/// The quantiles of every replicate, by point of the grid; `None` where a replicate is empty.
fn replicates(
    arm: &Histogram,
    grid: &[f64],
    options: &QuantileOptions,
    number: u64,
) -> Result<Vec<Vec<Option<f64>>>> {
    let Some(resampling) = arm.resampling() else {
        let bins = arm.bins();
        return Ok(grid.iter().map(|&q| order_statistics(&bins, q, options, number)).collect());
    };
    let count = resampling.replicates as usize;
    let mut totals = vec![0u64; count];
    arm.for_each_weighted(|_, weights| {
        totals.iter_mut().zip(weights).for_each(|(total, &w)| *total += u64::from(w));
    })?;
    let search = |q: f64| totals.iter().map(|&total| Search::new(q, total as f64)).collect();
    let mut searches: Vec<Vec<Search>> = grid.iter().map(|&q| search(q)).collect();
    arm.for_each_weighted(|bin, weights| {
        for searches in &mut searches {
            for (search, &weight) in searches.iter_mut().zip(weights) {
                search.pass(bin, f64::from(weight));
            }
        }
    })?;
    Ok(searches.into_iter().map(|s| s.into_iter().map(|search| search.found).collect()).collect())
}

/// `y_(I)` for `I ~ Binomial(n + 1, q)`, of arm `number`.
fn order_statistics(
    bins: &[Bin],
    q: f64,
    options: &QuantileOptions,
    number: u64,
) -> Vec<Option<f64>> {
    let rows: u64 = bins.iter().map(|bin| bin.rows).sum();
    let binomial = Binomial::new(rows + 1, q);
    let ends: Vec<u64> = bins
        .iter()
        .scan(0, |passed, bin| {
            *passed += bin.rows;
            Some(*passed)
        })
        .collect();
    (0..options.replicates)
        .map(|b| {
            let index = binomial.quantile(uniform(options.seed, number, b.into())).clamp(1, rows);
            let at = ends.partition_point(|&end| end < index);
            let bin = &bins[at];
            let before = ends[at] - bin.rows;
            Some(bin.at(((index - before) as f64 - 0.5) / bin.rows as f64))
        })
        .collect()
}

/// A uniform number in (0, 1), a pure function of seed, arm and replicate. It is the same for every point of a grid: the
/// replicates of its quantiles are joint, as those of one resample are.
fn uniform(seed: u64, arm: u64, replicate: u64) -> f64 {
    let bytes = weights::scramble(seed, arm << 32 | replicate);
    let [bits, _] = *bytes.as_chunks::<8>().0 else { unreachable!("a block has two halves") };
    ((u64::from_le_bytes(bits) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Binomial probabilities around the mode, by their ratios: no function of any platform in them.
#[derive(Debug)]
struct Binomial {
    first: u64,
    /// Cumulative, up to a factor.
    cumulative: Vec<f64>,
}

impl Binomial {
    fn new(n: u64, q: f64) -> Self {
        let mode = (((n as f64 + 1.0) * q) as u64).min(n);
        let odds = q / (1.0 - q);
        // p(k + 1)/p(k) = (n − k)/(k + 1)·odds.
        let up = |k: u64| (n - k) as f64 / (k + 1) as f64 * odds;
        let (mut below, mut above) = (Vec::new(), Vec::new());
        let (mut p, mut k) = (1.0, mode);
        while k > 0 && p > 1e-22 {
            p /= up(k - 1);
            k -= 1;
            below.push(p);
        }
        let first = k;
        (p, k) = (1.0, mode);
        while k < n && p > 1e-22 {
            p *= up(k);
            k += 1;
            above.push(p);
        }
        let mut sum = 0.0;
        let terms = below.into_iter().rev().chain([1.0]).chain(above);
        let cumulative = terms.map(|p| {
            sum += p;
            sum
        });
        Self { first, cumulative: cumulative.collect() }
    }

    /// The smallest number whose cumulative probability is at least `u`.
    fn quantile(&self, u: f64) -> u64 {
        let target = u * self.cumulative.last().copied().unwrap_or(1.0);
        let at = self.cumulative.partition_point(|&c| c < target);
        self.first + at.min(self.cumulative.len() - 1) as u64
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are equal to the bit")]
mod tests {
    use super::*;
    use crate::summary::moments::Columns;
    use crate::summary::{HistogramOptions, HistogramTable, Rows, Table};
    use crate::units;

    pub(super) fn histogram(y: &[f64], ids: &[u128], options: &HistogramOptions) -> Histogram {
        let columns = Columns::new(["y".to_owned()], 1).expect("a valid column");
        let mut table = HistogramTable::new(columns, options).expect("valid options");
        table.resize(1);
        let rows = Rows { slots: &vec![0; y.len()], columns: &[y], missing: &[None], units: ids };
        table.update(rows);
        table.get(0)
    }

    fn rows(y: &[f64]) -> Histogram {
        histogram(y, &[], &HistogramOptions::default())
    }

    /// R: quantile(c(3, 1, 4, 1, 5, 9, 2, 6), c(.1, .25, .5, .6, .75, .9), type = 2).
    #[test]
    fn quantiles_are_those_of_definition_two() {
        let bins = rows(&[3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]).bins();
        for (q, expected) in
            [(0.1, 1.0), (0.25, 1.5), (0.5, 3.5), (0.6, 4.0), (0.75, 5.5), (0.9, 9.0)]
        {
            assert_eq!(quantile(&bins, q), expected, "{q}");
        }
        // A tenth of 30 is 3, whatever its rounding.
        let bins = rows(&(1..=30).map(f64::from).collect::<Vec<_>>()).bins();
        assert_eq!((quantile(&bins, 0.1), quantile(&bins, 0.3)), (3.5, 9.5));
    }

    #[test]
    fn binned_quantiles_are_near() {
        let mut y: Vec<f64> = (0..100_000).map(|i| (f64::from(i) / 10_000.0).exp()).collect();
        let h = rows(&y);
        y.sort_unstable_by(f64::total_cmp);
        assert!(h.relative_error() > 0.0 && h.relative_error() <= 0.001);
        let bins = h.bins();
        for q in [0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.9999] {
            let exact = y[(q * 100_000.0) as usize];
            // Interpolation is far better than half a bin.
            assert!((quantile(&bins, q) / exact - 1.0).abs() < 2e-4, "{q}");
        }
    }

    #[test]
    fn binomial_quantiles_are_those_of_r() {
        // R: qbinom(c(.001, .025, .5, .975, .999), size, prob).
        for (n, q, expected) in [
            (10, 0.5, [1, 2, 5, 8, 9]),
            (101, 0.9, [81, 85, 91, 96, 99]),
            (1_000_001, 0.01, [9694, 9805, 10000, 10195, 10309]),
        ] {
            let binomial = Binomial::new(n, q);
            let found = [0.001, 0.025, 0.5, 0.975, 0.999].map(|u| binomial.quantile(u));
            assert_eq!(found, expected, "{n} {q}");
        }
    }

    /// The standard error of a quantile is √(q(1 − q)/n)/f(Q); of the exponential law f(Q) = 1 − q.
    #[test]
    fn standard_errors_are_the_asymptotic_ones() {
        let (n, experiments) = (4000, 60);
        let exponential = |first: i128| -> (Vec<f64>, Vec<u128>) {
            let ids: Vec<u128> = (first..first + n).map(units::integer).collect();
            let uniform = |id: &u128| ((id >> 75) as f64 + 0.5) / (1u64 << 53) as f64;
            (ids.iter().map(|id| -uniform(id).ln()).collect(), ids)
        };
        for q in [0.1, 0.5, 0.9] {
            let mut found = [0.0; 2];
            for experiment in 0..experiments {
                let options = QuantileOptions { q, replicates: 500, ..QuantileOptions::default() };
                let resampling = Resampling { replicates: 500, ..Resampling::default() };
                let weighted = HistogramOptions {
                    resampling: Some(resampling),
                    ..HistogramOptions::default()
                };
                let arms = [0, 1].map(|arm| exponential((2 * experiment + arm) * n));
                for (found, options_of) in
                    found.iter_mut().zip([HistogramOptions::default(), weighted])
                {
                    let [t, c] = arms.each_ref().map(|(y, ids)| histogram(y, ids, &options_of));
                    let e = bootstrap_quantile(&t, &c, &Inference::default(), &options);
                    *found += e.expect("valid").std_error.expect("defined").powi(2);
                }
            }
            let expected = (2.0 * q / (1.0 - q) / n as f64).sqrt();
            for found in found {
                // One standard error varies by about (nq(1 − q))^(−1/4)/2, a tenth.
                let ratio = (found / experiments as f64).sqrt() / expected;
                assert!((ratio - 1.0).abs() < 0.06, "{q}: {ratio}");
            }
        }
    }
}
