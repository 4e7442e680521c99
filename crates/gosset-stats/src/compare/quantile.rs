//! Differences of quantiles.

use super::bootstrap::LEAST_UNITS;
use super::bridge;
use super::draws::{Deviations, Draws, Ends, covariance};
use super::effect::Effect;
use super::infer::{Difference, check_outcomes};
use super::simultaneous::{Banded, with_bands};
use crate::inference::Inference;
use crate::summary::histogram::named;
use crate::summary::{Bin, Histogram, Resampling};
use crate::wide::wide;
use crate::{Error, Result, dist};

/// Why a quantile has no interval.
const FEW_BEYOND: &str = "too few rows beyond the quantile for an interval";

/// How the interval of a difference of quantiles is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QuantileInterval {
    /// Order statistics of the replicates.
    #[default]
    Percentile,
    /// Order statistics, mirrored at the estimate.
    Basic,
    /// The estimate and normal quantiles of the standard deviation of the replicates.
    Normal,
    /// The delta method: normal, with the standard error of the share of rows below each quantile over the density there.
    Delta,
}

impl QuantileInterval {
    /// Its name in SQL and in `method`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Percentile => "percentile",
            Self::Basic => "basic",
            Self::Normal => "normal",
            Self::Delta => "delta",
        }
    }

    /// What is made of replicates of the quantile, if it is.
    fn ends(self) -> Option<Ends> {
        match self {
            Self::Percentile => Some(Ends::Percentile),
            Self::Basic => Some(Ends::Basic),
            Self::Normal => Some(Ends::Normal),
            Self::Delta => None,
        }
    }
}

/// What is asked of a bootstrap of quantiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileOptions {
    /// Which quantile, in (0, 1).
    pub q: f64,
    /// How the interval is made.
    pub interval: QuantileInterval,
    /// How many replicates, for histograms of rows: those of units have theirs.
    pub replicates: u32,
    /// The seed, for histograms of rows.
    pub seed: u64,
}

impl Default for QuantileOptions {
    fn default() -> Self {
        let Resampling { replicates, seed, .. } = Resampling::default();
        Self { q: 0.5, interval: QuantileInterval::Percentile, replicates, seed }
    }
}

/// The bootstrap of a difference of quantiles, `Q_t(q) − Q_c(q)`.
///
/// Formula: the `q`-quantile of an arm is the value at which the rows in ascending order reach the share `q`; where they
/// reach it between two values, the mean of both (definition 2 of Hyndman and Fan). In a bin of several values it is
/// interpolated between the smallest and the largest of them.
///
/// * Histograms of rows, where rows are independent units: the index of the quantile in a Poisson resample is about
///   binomial, so that a replicate is `y_(I)` with `I ~ Binomial(n + 1, q)` in each arm and nothing is resampled. The
///   normal scores of `I` at several quantiles are those of a Brownian bridge: at `q < r` they are correlated by
///   `√(q(1 − r)/(r(1 − q)))`, as the numbers of rows of a resample below them are.
/// * Histograms of units, with many rows each: the quantile of the rows weighted by the replicate's weights of their
///   units.
///
/// `std_error`, percentile, basic and normal intervals and p-values are made of the replicates as in
/// [`bootstrap`](super::bootstrap). `mean_*` are the two quantiles, and `relative` is over that of control.
///
/// The delta method takes no order statistics of replicates: the share of rows at or below the quantile has the standard
/// deviation `s` of its replicates (`√(q(1 − q)/n)` where rows are units), and that of the quantile is
/// `(Q(q + z·s) − Q(q − z·s))/2z` with the normal quantile `z` of the confidence (Woodruff's interval for the density).
/// Arms are independent and the law is normal.
///
/// Assumptions: a continuous distribution around the quantile. On few distinct values the replicates fall on one value
/// or jump between two, and the interval is too short or too long. Of extremes no bootstrap knows anything: the largest
/// value of a resample is that of the sample in two of three.
///
/// Small samples: without rows in an arm there is no estimate; with fewer than 5 rows or units in an arm, with `q·n` or
/// `(1 − q)·n` below 2.5 in one of them, as for the smallest and the largest value (`q` of 0 and 1) always, or where all
/// replicates agree, there is no test and no interval, and `note` says why. Values that are not finite give NaN.
///
/// # Errors
/// [`Error::Mismatch`] for histograms of different columns or resampling, [`Error::Invalid`] for `q` outside of [0, 1] and a
/// confidence outside of (0, 1).
///
/// # References
/// Schultzberg and Ankargren (2022), Resampling-free bootstrap inference for quantiles, arXiv:2202.10992. Hyndman and Fan
/// (1996), Sample quantiles in statistical packages, American Statistician 50(4), 361–365,
/// doi:10.1080/00031305.1996.10473566. Woodruff (1952), Confidence intervals for medians and other position measures,
/// Journal of the American Statistical Association 47(260), 635–646, doi:10.1080/01621459.1952.10483443. Deng, Knoblich
/// and Lu (2018), Applying the delta method in metric analytics, KDD '18, 233–242, doi:10.1145/3219819.3219919.
pub fn bootstrap_quantile(
    t: &Histogram,
    c: &Histogram,
    inference: &Inference,
    options: &QuantileOptions,
) -> Result<Effect> {
    let (mut effect, pairs) = Effect::of_quantiles((t, c), inference, &[options.q], options)?;
    match pairs.first() {
        Some(pair) => {
            effect.infer_pair(inference, options.interval, pair);
            if effect.std_error == Some(0.0) {
                effect.note = None;
                effect.remark("zero variance: all replicates of the quantile agree");
            }
        }
        None => effect.set_quantiles(t, c, options.q)?,
    }
    Ok(effect)
}

/// The difference of two quantile functions over a grid, with pointwise intervals and a simultaneous band: by quantile.
///
/// Formula: replicates as in [`bootstrap_quantile`], joint over the grid. With `ŝe(q)` the standard deviation of `Δ*(q)`,
/// the band is `Δ̂(q) ± m·ŝe(q)`, where `m` is the `k`-th largest of `max_q |Δ*_b(q) − Δ̂(q)|/ŝe(q)` for
/// `k = ⌊(B + 1)α⌋`, and `p_adjusted = (1 + #{b: max_q ≥ |Δ̂(q)|/ŝe(q)})/(B + 1)`: the band holds the whole difference with
/// the confidence, and `p_adjusted` below α somewhere is a test that the distributions are the same at level α. Points
/// without an interval, too near to 0 or 1 for the rows, and those whose replicates all agree have no band of their own and
/// take no part in the maximum.
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
) -> Result<Vec<(f64, Banded)>> {
    if grid.is_empty() {
        return Err(Error::Invalid("expected at least one quantile, found none".into()));
    }
    let (empty, all) = Effect::of_quantiles((t, c), inference, grid, options)?;
    let points = grid.iter().enumerate().map(|(i, &q)| {
        let mut effect = empty.clone();
        let deviations = match all.get(i) {
            Some(pair) => effect.infer_pair(inference, options.interval, pair),
            None => {
                effect.set_quantiles(t, c, q)?;
                Deviations::default()
            }
        };
        Ok((effect, deviations))
    });
    let banded = with_bands(points.collect::<Result<Vec<_>>>()?, inference.confidence);
    Ok(grid.iter().copied().zip(banded).collect())
}

/// A quantile with its replicates, of which there are none where there is nothing to infer.
#[derive(Debug)]
struct Point {
    value: f64,
    /// How far the replicates are from it; by the delta method, how far they would be on a straight distribution function.
    shifts: Vec<Option<f64>>,
    /// By the delta method.
    std_error: Option<f64>,
    /// Whether there are too few rows beyond it for an interval, or that of the delta method would reach beyond the data.
    beyond: bool,
}

/// A quantile of treatment and that of control.
#[derive(Debug)]
struct Pair {
    t: Point,
    c: Point,
}

impl Effect {
    /// Sets the quantiles of a pair and, if it has replicates, the inference; hands them on.
    fn infer_pair(
        &mut self,
        inference: &Inference,
        interval: QuantileInterval,
        Pair { t, c }: &Pair,
    ) -> Deviations {
        (self.mean_treatment, self.mean_control) = (Some(t.value), Some(c.value));
        let estimate = t.value - c.value;
        let shifts = t.shifts.iter().copied().zip(c.shifts.iter().copied());
        match (interval.ends(), t.std_error.zip(c.std_error)) {
            (Some(ends), _) if !t.shifts.is_empty() => {
                self.infer_draws(inference, &ends, Draws::new(estimate, c.value, shifts))
            }
            (None, Some((se_t, se_c))) => {
                let (v_t, v_c) = (se_t * se_t, se_c * se_c);
                let normal = f64::INFINITY;
                self.infer(
                    inference,
                    &Difference::independent(estimate, c.value, v_t, v_c, normal),
                );
                let draws = shifts.map(|(t, c)| Some(t? - c?)).collect();
                Deviations { std_error: self.std_error, draws }
            }
            _ => {
                self.set_estimate(estimate, c.value);
                if t.beyond || c.beyond {
                    self.remark(FEW_BEYOND);
                }
                Deviations::default()
            }
        }
    }

    /// Sets the quantile of each arm that has one, where there is no difference.
    fn set_quantiles(&mut self, t: &Histogram, c: &Histogram, q: f64) -> Result<()> {
        self.mean_treatment = histogram_quantile(t, q)?;
        self.mean_control = histogram_quantile(c, q)?;
        Ok(())
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
            return Err(Error::Mismatch(format!(
                "expected two histograms of the same resampling, found {} for treatment and {} for control",
                named(t.resampling()),
                named(c.resampling())
            )));
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
        let few_units = effect.lacks_known_units((t.units(), c.units()), LEAST_UNITS);
        let rows = t.rows().min(c.rows()) as f64;
        let is_known = |q: f64| !few_units && q.min(1.0 - q) * rows >= LEAST_UNITS as f64 / 2.0;
        let known: Vec<f64> = grid.iter().copied().filter(|&q| is_known(q)).collect();
        let points = |arm: &Histogram, number: usize| -> Result<Vec<Point>> {
            let bins = arm.bins();
            let of = (arm, bins.as_slice());
            let mut points = match options.interval {
                _ if known.is_empty() => Vec::new(),
                QuantileInterval::Delta => {
                    delta(of, &known, options, number, inference.confidence)?
                }
                _ => bootstrapped(of, &known, options, number)?,
            }
            .into_iter();
            let alone = |q| Point { beyond: !few_units, ..Point::alone(quantile(&bins, q)) };
            let point = |&q: &f64| if is_known(q) { points.next() } else { Some(alone(q)) };
            Ok(grid.iter().filter_map(point).collect())
        };
        let (all_t, all_c) = (points(t, 1)?, points(c, 0)?);
        Ok((effect, all_t.into_iter().zip(all_c).map(|(t, c)| Pair { t, c }).collect()))
    }
}

impl Point {
    /// A quantile of which no more is known.
    fn alone(value: f64) -> Self {
        Self { value, shifts: Vec::new(), std_error: None, beyond: false }
    }
}

/// The points of a grid with the replicates of their quantiles.
fn bootstrapped(
    (arm, bins): (&Histogram, &[Bin]),
    grid: &[f64],
    options: &QuantileOptions,
    number: usize,
) -> Result<Vec<Point>> {
    let drawn = replicates((arm, bins), grid, options, number)?;
    let points = grid.iter().zip(drawn).map(|(&q, drawn)| {
        let value = quantile(bins, q);
        let shifts = drawn.into_iter().map(|replicate| Some(replicate? - value)).collect();
        Point { shifts, ..Point::alone(value) }
    });
    Ok(points.collect())
}

/// The points of a grid by the delta method.
fn delta(
    (arm, bins): (&Histogram, &[Bin]),
    grid: &[f64],
    options: &QuantileOptions,
    number: usize,
    confidence: f64,
) -> Result<Vec<Point>> {
    let z = dist::normal_isf((1.0 - confidence) / 2.0);
    let points = grid.iter().zip(shares(arm, grid, options, number)?).map(|(&q, shares)| {
        let value = quantile(bins, q);
        let (low, high) = (q - z * shares.std_error, q + z * shares.std_error);
        if high <= low {
            // All rows are in one bin, of which every replicate has the same share below.
            let shifts = vec![Some(0.0); shares.draws.len()];
            return Point { shifts, std_error: Some(0.0), ..Point::alone(value) };
        }
        if low <= 0.0 || high >= 1.0 {
            return Point { beyond: true, ..Point::alone(value) };
        }
        // A larger share below is a smaller quantile.
        let slope = (quantile(bins, high) - quantile(bins, low)) / (high - low);
        Point {
            value,
            shifts: shares.draws.into_iter().map(|draw| Some((q - draw?) * slope)).collect(),
            std_error: Some(shares.std_error * slope),
            beyond: false,
        }
    });
    Ok(points.collect())
}

/// The share of rows at or below a quantile, in replicates.
#[derive(Debug)]
struct Shares {
    std_error: f64,
    draws: Vec<Option<f64>>,
}

/// The shares of rows at or below the quantiles of a grid.
fn shares(
    arm: &Histogram,
    grid: &[f64],
    options: &QuantileOptions,
    number: usize,
) -> Result<Vec<Shares>> {
    let rows = arm.rows();
    let Some(resampling) = arm.resampling() else {
        let of_rows = |&q: &f64| {
            let indices = binomial_indices(rows, q, options, number);
            let draws =
                indices.into_iter().map(|index| Some(index as f64 / (rows + 1) as f64)).collect();
            Shares { std_error: (q * (1.0 - q) / rows as f64).sqrt(), draws }
        };
        return Ok(grid.iter().map(of_rows).collect());
    };
    let count = resampling.replicates as usize;
    let mut totals = vec![0.0; count];
    let mut below = vec![vec![0.0; count]; grid.len()];
    // In a bin that a quantile is in, weights count in proportion to its rows below.
    let mut passed = 0.0;
    arm.for_each_weighted(|bin, weights| {
        let in_bin = bin.rows as f64;
        add(&mut totals, 1.0, weights);
        for (&q, below) in grid.iter().zip(&mut below) {
            let part = ((q * rows as f64 - passed) / in_bin).clamp(0.0, 1.0);
            if part > 0.0 {
                add(below, part, weights);
            }
        }
        passed += in_bin;
    })?;
    let shares = below.into_iter().map(|below| {
        let draws: Vec<Option<f64>> = below
            .iter()
            .zip(&totals)
            .map(|(below, &total)| (total > 0.0).then(|| below / total))
            .collect();
        let known: Vec<f64> = draws.iter().copied().flatten().collect();
        Shares { std_error: covariance(&known, &known).sqrt(), draws }
    });
    Ok(shares.collect())
}

/// A quantile of a histogram as [`bootstrap_quantile`] defines it; `None` without rows, NaN where a value is not finite.
///
/// # Errors
/// [`Error::Invalid`] for `q` outside of [0, 1].
pub fn histogram_quantile(histogram: &Histogram, q: f64) -> Result<Option<f64>> {
    check_q(q)?;
    Ok(match histogram.rows() {
        0 => None,
        _ if histogram.not_finite() > 0 => Some(f64::NAN),
        _ => Some(quantile(&histogram.bins(), q)),
    })
}

fn check_q(q: f64) -> Result<()> {
    if (0.0..=1.0).contains(&q) {
        return Ok(());
    }
    Err(Error::Invalid(format!("expected a quantile from 0 to 1, found {q}")))
}

/// The quantile of bins in ascending order.
fn quantile(bins: &[Bin], q: f64) -> f64 {
    let rows: u64 = bins.iter().map(|bin| bin.rows).sum();
    let mut search = Search::new(q, rows as f64);
    let mut passed = 0.0;
    for bin in bins {
        let weight = bin.rows as f64;
        passed += weight;
        search.pass(bin, weight, passed);
    }
    // Nothing follows the largest value.
    search.found.or(search.edge).unwrap_or(f64::NAN)
}

/// The search for the value at which a share of the weight is reached.
#[derive(Debug, Clone)]
struct Search {
    target: f64,
    /// Reached right at the end of a bin: the mean of it and of the next one.
    edge: Option<f64>,
    found: Option<f64>,
}

impl Search {
    fn new(q: f64, total: f64) -> Self {
        Self { target: q * total, edge: None, found: None }
    }

    /// The share of a number of rows is rounded.
    fn fuzz(&self) -> f64 {
        4.0 * f64::EPSILON * self.target
    }

    /// The weight before which there is nothing to find; none once it is found.
    fn least(&self) -> f64 {
        if self.found.is_some() { f64::INFINITY } else { self.target - self.fuzz() }
    }

    /// Passes a bin, at whose end so much weight is behind.
    fn pass(&mut self, bin: &Bin, weight: f64, passed: f64) {
        if weight == 0.0 || self.found.is_some() {
            return;
        }
        if let Some(edge) = self.edge {
            self.found = Some(edge / 2.0 + bin.min / 2.0);
        } else if (passed - self.target).abs() <= self.fuzz() {
            self.edge = Some(bin.max);
        } else if passed > self.target {
            let before = passed - weight;
            self.found = Some(bin.at((self.target - before) / weight));
        }
    }
}

/// The searches of all replicates.
#[derive(Debug)]
struct Searches {
    of_replicates: Vec<Search>,
    /// By replicate, [`Search::least`].
    least: Vec<f64>,
}

impl Searches {
    fn new(q: f64, totals: &[f64]) -> Self {
        let of_replicates: Vec<Search> =
            totals.iter().map(|&total| Search::new(q, total)).collect();
        let least = of_replicates.iter().map(Search::least).collect();
        Self { of_replicates, least }
    }

    /// As [`Search::pass`], by replicate. Few bins have the quantile of any.
    fn pass(&mut self, bin: &Bin, weights: &[u32], passed: &[f64]) {
        if !any_reached(passed, &self.least) {
            return;
        }
        let searches = self.of_replicates.iter_mut().zip(&mut self.least);
        for ((search, least), (&weight, &passed)) in searches.zip(weights.iter().zip(passed)) {
            if passed >= *least {
                search.pass(bin, f64::from(weight), passed);
                *least = search.least();
            }
        }
    }
}

wide! {
    fn any_reached(passed: &[f64], least: &[f64]) -> bool {
        passed.iter().zip(least).fold(false, |any, (passed, least)| any | (passed >= least))
    }
}

/// The quantiles of every replicate, by point of the grid; `None` where a replicate is empty.
fn replicates(
    (arm, bins): (&Histogram, &[Bin]),
    grid: &[f64],
    options: &QuantileOptions,
    number: usize,
) -> Result<Vec<Vec<Option<f64>>>> {
    let Some(resampling) = arm.resampling() else {
        return Ok(grid.iter().map(|&q| order_statistics(bins, q, options, number)).collect());
    };
    // All numbers of rows are exact.
    let mut totals = vec![0.0; resampling.replicates as usize];
    arm.for_each_weighted(|_, weights| add(&mut totals, 1.0, weights))?;
    let mut all: Vec<Searches> = grid.iter().map(|&q| Searches::new(q, &totals)).collect();
    let mut passed = vec![0.0; totals.len()];
    arm.for_each_weighted(|bin, weights| {
        add(&mut passed, 1.0, weights);
        all.iter_mut().for_each(|searches| searches.pass(bin, weights, &passed));
    })?;
    let found = |searches: Searches| searches.of_replicates.into_iter().map(|s| s.found).collect();
    Ok(all.into_iter().map(found).collect())
}

wide! {
    /// Adds a part of the weights to those before.
    fn add(totals: &mut [f64], part: f64, weights: &[u32]) {
        totals.iter_mut().zip(weights).for_each(|(total, &w)| *total += part * f64::from(w));
    }
}

/// `y_(I)` for `I ~ Binomial(n + 1, q)`, of arm `number`.
fn order_statistics(
    bins: &[Bin],
    q: f64,
    options: &QuantileOptions,
    number: usize,
) -> Vec<Option<f64>> {
    let rows: u64 = bins.iter().map(|bin| bin.rows).sum();
    let ends: Vec<u64> = bins
        .iter()
        .scan(0, |passed, bin| {
            *passed += bin.rows;
            Some(*passed)
        })
        .collect();
    binomial_indices(rows, q, options, number)
        .into_iter()
        .map(|index| {
            let at = ends.partition_point(|&end| end < index);
            let bin = &bins[at];
            let before = ends[at] - bin.rows;
            Some(bin.at(((index - before) as f64 - 0.5) / bin.rows as f64))
        })
        .collect()
}

/// The index `I ~ Binomial(n + 1, q)` of the order statistic in each replicate, of arm `number`: those of several
/// quantiles are correlated as the numbers of rows of one resample below them.
fn binomial_indices(rows: u64, q: f64, options: &QuantileOptions, number: usize) -> Vec<u64> {
    let binomial = Binomial::new(rows + 1, q);
    let uniforms = bridge::uniforms(options.seed, q, options.replicates);
    uniforms.iter().map(|of_arms| binomial.quantile(of_arms[number]).clamp(1, rows)).collect()
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
        let rows = Rows {
            slots: &vec![0; y.len()],
            columns: &[y],
            missing: &[None],
            units: ids,
            ..Rows::default()
        };
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
        let resampling = Some(Resampling { replicates: 500, ..Resampling::default() });
        let of_rows = HistogramOptions::default();
        let of_units = HistogramOptions { resampling, ..of_rows };
        // Rows; units; units with three equal rows each, which tell no more than one.
        let shapes = [(&of_rows, 1), (&of_units, 1), (&of_units, 3)];
        for (q, interval) in [0.1, 0.5, 0.9]
            .into_iter()
            .flat_map(|q| [(q, QuantileInterval::Normal), (q, QuantileInterval::Delta)])
        {
            let mut found = [0.0; 3];
            for experiment in 0..experiments {
                // With one seed rows would have the noise of the same replicates in every experiment.
                let seed = experiment as u64;
                let options = QuantileOptions { q, interval, replicates: 500, seed };
                let arms = [0, 1].map(|arm| exponential((2 * experiment + arm) * n));
                for (found, (options_of, times)) in found.iter_mut().zip(shapes) {
                    let [t, c] = arms.each_ref().map(|(y, ids)| {
                        histogram(&y.repeat(times), &ids.repeat(times), options_of)
                    });
                    let e = bootstrap_quantile(&t, &c, &Inference::default(), &options);
                    *found += e.expect("valid").std_error.expect("defined").powi(2);
                }
            }
            let expected = (2.0 * q / (1.0 - q) / n as f64).sqrt();
            for found in found {
                // One standard error varies by about (nq(1 − q))^(−1/4)/2, a tenth.
                let ratio = (found / experiments as f64).sqrt() / expected;
                assert!((ratio - 1.0).abs() < 0.06, "{q} {interval:?}: {ratio}");
            }
        }
    }

    /// The clustered standard deviation of the share below a quantile is that of the mean of an indicator.
    #[test]
    fn the_delta_method_clusters_the_share_below() {
        let resampling = Some(Resampling { replicates: 4000, ..Resampling::default() });
        let options = HistogramOptions { resampling, ..HistogramOptions::default() };
        let arm = |arm: i128| {
            let rows = (0..3000).map(|i| (units::integer(i % 500 * 2 + arm), i));
            let (ids, y): (Vec<u128>, Vec<f64>) =
                rows.map(|(id, i)| (id, ((id >> 90) % 1000) as f64 + (i / 500) as f64)).unzip();
            (histogram(&y, &ids, &options), y, ids)
        };
        let (t, y, ids) = arm(1);
        let of = QuantileOptions { q: 0.3, ..QuantileOptions::default() };
        let found = shares(&t, &[0.3], &of, 1).expect("a histogram of units");
        let q = quantile(&t.bins(), 0.3);
        let below: Vec<f64> = y.iter().map(|&y| f64::from(u8::from(y <= q))).collect();
        let mut sums = std::collections::BTreeMap::new();
        for (id, b) in ids.iter().zip(&below) {
            *sums.entry(id).or_insert(0.0) += b - 0.3;
        }
        let squares: f64 = sums.values().map(|s| s * s).sum();
        let expected = squares.sqrt() / y.len() as f64;
        let ratio = found[0].std_error / expected;
        assert!((ratio - 1.0).abs() < 4.0 / (2.0f64 * 4000.0).sqrt(), "{ratio}");
    }

    /// The bands of nine deciles, of rows, hold all of them at once in 95 of 100 experiments, whichever the interval.
    #[test]
    fn bands_hold_all_quantiles_at_once() {
        let (n, experiments) = (1000, 600);
        let grid: Vec<f64> = (1..10).map(|k| f64::from(k) / 10.0).collect();
        for interval in [QuantileInterval::Percentile, QuantileInterval::Delta] {
            let held = (0..experiments).filter(|&experiment| {
                let [t, c] = [0, 1].map(|arm| {
                    let first = (2 * experiment + arm) * n;
                    let ids = (first..first + n).map(units::integer);
                    rows(&ids.map(|id| (id >> 75) as f64).collect::<Vec<_>>())
                });
                let seed = experiment as u64;
                let options = QuantileOptions {
                    interval,
                    replicates: 399,
                    seed,
                    ..QuantileOptions::default()
                };
                let found = quantile_effects(&t, &c, &Inference::default(), &grid, &options);
                found.expect("valid").iter().all(|(_, point)| {
                    point.band.is_some_and(|(low, high)| low <= 0.0 && 0.0 <= high)
                })
            });
            // Four standard errors.
            let share = held.count() as f64 / experiments as f64;
            let error = 4.0 * (0.95f64 * 0.05 / experiments as f64).sqrt();
            assert!((share - 0.95).abs() < error, "{interval:?}: {share}");
        }
    }

    #[test]
    fn values_that_are_all_the_same_have_no_interval() {
        let (y, ids) = (vec![3.0; 400], (0..400).map(units::integer).collect::<Vec<_>>());
        let resampling = Some(Resampling { replicates: 50, ..Resampling::default() });
        let of_units =
            histogram(&y, &ids, &HistogramOptions { resampling, ..HistogramOptions::default() });
        for h in [rows(&y), of_units] {
            for interval in [
                QuantileInterval::Percentile,
                QuantileInterval::Basic,
                QuantileInterval::Normal,
                QuantileInterval::Delta,
            ] {
                for q in [0.1, 0.5, 0.75] {
                    let options = QuantileOptions { q, interval, ..QuantileOptions::default() };
                    let e = bootstrap_quantile(&h, &h, &Inference::default(), &options);
                    let e = e.expect("valid");
                    assert_eq!(
                        (e.estimate, e.std_error, e.p_value, e.ci_lower),
                        (Some(0.0), Some(0.0), None, None)
                    );
                    let note = e.note.expect("a reason");
                    assert!(note.contains("all replicates of the quantile agree"), "{note}");
                }
            }
        }
    }

    #[test]
    fn no_interval_reaches_beyond_the_data() {
        let y: Vec<f64> = (0..60).map(f64::from).collect();
        let options = QuantileOptions {
            q: 0.95,
            interval: QuantileInterval::Delta,
            ..QuantileOptions::default()
        };
        let e = bootstrap_quantile(&rows(&y), &rows(&y), &Inference::default(), &options);
        let e = e.expect("valid");
        assert_eq!((e.estimate, e.std_error, e.p_value), (Some(0.0), None, None));
        let note = e.note.expect("a reason");
        assert!(note.contains("too few rows beyond the quantile"), "{note}");
    }

    #[test]
    fn extremes_are_estimates_alone_and_leave_the_others_as_they_are() {
        let (y, ids): (Vec<f64>, Vec<u128>) =
            (0..500u32).map(|i| (f64::from(i * i % 97), units::integer(i.into()))).unzip();
        let resampling = Some(Resampling { replicates: 99, ..Resampling::default() });
        let of_units =
            histogram(&y, &ids, &HistogramOptions { resampling, ..HistogramOptions::default() });
        let shifted: Vec<f64> = y.iter().map(|y| y + 3.0).collect();
        let of_units = (
            histogram(&shifted, &ids, &HistogramOptions { resampling, ..Default::default() }),
            of_units,
        );
        for (t, c) in [(rows(&shifted), rows(&y)), of_units] {
            for interval in [QuantileInterval::Percentile, QuantileInterval::Delta] {
                let options = QuantileOptions { interval, ..QuantileOptions::default() };
                let effects = |grid: &[f64]| {
                    quantile_effects(&t, &c, &Inference::default(), grid, &options).expect("valid")
                };
                let all = effects(&[0.0, 0.004, 0.25, 0.5, 0.9, 0.997, 1.0]);
                assert_eq!(all[2..5], effects(&[0.25, 0.5, 0.9]), "{interval:?}");
                for (q, extreme) in all[..2].iter().chain(&all[5..]) {
                    let Effect { estimate, std_error, p_value, ci_lower, note, .. } =
                        &extreme.effect;
                    let none = (std_error, p_value, ci_lower, extreme.band, extreme.p_adjusted);
                    assert_eq!(none, (&None, &None, &None, None, None), "{q}");
                    assert!(estimate.is_some(), "{q}");
                    let note = note.as_deref().expect("a reason");
                    assert!(note.contains("too few rows beyond the quantile"), "{note}");
                }
                let least = &all[0].1.effect;
                assert_eq!((least.mean_treatment, least.mean_control), (Some(3.0), Some(0.0)));
                let largest = &all[6].1.effect;
                assert_eq!(
                    (largest.mean_treatment, largest.mean_control),
                    (Some(99.0), Some(96.0))
                );
            }
            for q in [-0.1, 1.1, f64::NAN] {
                let options = QuantileOptions { q, ..QuantileOptions::default() };
                bootstrap_quantile(&t, &c, &Inference::default(), &options)
                    .expect_err("no quantile");
            }
        }
    }
}
