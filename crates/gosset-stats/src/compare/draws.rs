//! From bootstrap replicates to an [`Effect`]: standard errors, intervals and p-values.

use super::effect::Effect;
use super::infer::Difference;
use super::relative;
use crate::dist::{normal_isf, normal_sf};
use crate::inference::{Alternative, Inference};

/// What is left of a difference of equal sums of doubles, of these sums.
const ROUNDING: f64 = 1e-12;

/// The replicates that have both means.
#[derive(Debug)]
pub(super) struct Draws {
    /// The difference of the means or ratios, and that of control.
    estimate: f64,
    control: f64,
    /// `θ*`.
    effects: Vec<f64>,
    /// `R*_c`.
    controls: Vec<f64>,
    /// Which replicates these are.
    kept: Vec<usize>,
    /// Replicates that are empty in an arm.
    empty: usize,
    /// `θ* − θ̂` of all replicates.
    deviations: Vec<Option<f64>>,
}

/// The replicates of one of several differences, of which bands are made.
#[derive(Debug, Default)]
pub(super) struct Deviations {
    /// Their standard deviation.
    pub(super) std_error: Option<f64>,
    /// `θ* − θ̂`; `None` where a replicate is empty.
    pub(super) draws: Vec<Option<f64>>,
}

/// How an interval is made, with what it takes beside the replicates.
#[derive(Debug)]
pub(super) enum Ends {
    Percentile,
    Basic,
    Normal,
    /// The standard error of the estimate, and `(θ* − θ̂)/se*` of every replicate that is kept.
    Studentized {
        std_error: f64,
        pivots: Vec<f64>,
    },
    /// The acceleration.
    Bca(f64),
}

impl Draws {
    /// From `R* − R` of treatment and control in every replicate.
    pub(super) fn new(
        estimate: f64,
        control: f64,
        shifts: impl Iterator<Item = (Option<f64>, Option<f64>)>,
    ) -> Self {
        let mut draws = Self {
            estimate,
            control,
            effects: Vec::new(),
            controls: Vec::new(),
            kept: Vec::new(),
            empty: 0,
            deviations: Vec::new(),
        };
        for (b, shifts) in shifts.enumerate() {
            draws.deviations.push(shifts.0.zip(shifts.1).map(|(t, c)| t - c));
            let (Some(shift_t), Some(shift_c)) = shifts else {
                draws.empty += 1;
                continue;
            };
            let effect = estimate + (shift_t - shift_c);
            // On rare events many replicates have no difference at all, and sums in doubles almost none.
            let scale = estimate.abs() + shift_t.abs() + shift_c.abs();
            draws.effects.push(if effect.abs() <= ROUNDING * scale { 0.0 } else { effect });
            draws.controls.push(control + shift_c);
            draws.kept.push(b);
        }
        draws
    }

    /// The ends of studentized intervals, from the variance of the estimate and those of the replicates.
    pub(super) fn studentized(&self, variance: f64, variances: impl Fn(usize) -> f64) -> Ends {
        let pivots = self.kept.iter().zip(&self.effects);
        let pivots = pivots.map(|(&b, effect)| (effect - self.estimate) / variances(b).sqrt());
        // A replicate of one cluster has no variance of its own.
        let pivots = pivots.filter(|pivot| pivot.is_finite()).collect();
        Ends::Studentized { std_error: variance.sqrt(), pivots }
    }

    /// The estimate with the variances of the replicates, under the normal law.
    fn difference(&self) -> Difference {
        Difference {
            estimate: self.estimate,
            variance: covariance(&self.effects, &self.effects),
            df: f64::INFINITY,
            control: self.control,
            control_variance: covariance(&self.controls, &self.controls),
            covariance: covariance(&self.effects, &self.controls),
        }
    }

    /// The replicates of the relative effect; `None` where some mean of control has the other sign, or is 0.
    fn relative(&self) -> Option<Vec<f64>> {
        let pairs = self.effects.iter().zip(&self.controls);
        pairs.map(|(e, c)| (c * self.control.signum() > 0.0).then(|| e / c.abs())).collect()
    }
}

/// One of so many replicates may be empty. Of two units an arm has Poisson weights of none in a seventh of them; that a
/// factor of crossed units has so few levels, or so few units have what a ratio is of, shows in nothing else.
const MOST_EMPTY: usize = 10;

impl Effect {
    /// Sets the inference from replicates, and hands them on.
    pub(super) fn infer_draws(
        &mut self,
        inference: &Inference,
        ends: &Ends,
        mut draws: Draws,
    ) -> Deviations {
        let deviations = std::mem::take(&mut draws.deviations);
        self.set_inference(inference, ends, draws);
        Deviations { std_error: self.std_error, draws: deviations }
    }

    fn set_inference(&mut self, inference: &Inference, ends: &Ends, draws: Draws) {
        let replicates = draws.empty + draws.effects.len();
        if draws.empty * MOST_EMPTY > replicates {
            self.set_estimate(draws.estimate, draws.control);
            self.remark(format!(
                "too few units to resample: an arm is empty in {} of {replicates} replicates",
                draws.empty
            ));
            return;
        }
        if draws.empty > 0 {
            self.remark(format!(
                "left out, empty in an arm: {} of {replicates} replicates",
                draws.empty
            ));
        }
        if let Ends::Normal = ends {
            return self.infer(inference, &draws.difference());
        }
        let difference = draws.difference();
        let estimate = draws.estimate;
        self.set_estimate(estimate, draws.control);
        let std_error = difference.std_error();
        self.std_error = Some(std_error);
        if self.lacks_finiteness(&difference) || self.lacks_variance(std_error) {
            return;
        }
        self.statistic = Some(estimate / std_error);
        let relative = draws.relative();
        let effects = Sorted::new(draws.effects);
        let Inference { alternative, .. } = *inference;
        let mirrored = Inference { alternative: alternative.mirrored(), ..*inference };
        let (p_value, interval) = match ends {
            Ends::Percentile | Ends::Normal => {
                (effects.p_value(alternative, 0.0), effects.interval(inference))
            }
            // The basic interval excludes 0 where the percentile one excludes twice the estimate, on the other side.
            Ends::Basic => (
                effects.p_value(mirrored.alternative, 2.0 * estimate),
                effects
                    .interval(&mirrored)
                    .map(|(low, high)| (2.0 * estimate - high, 2.0 * estimate - low)),
            ),
            Ends::Studentized { std_error, pivots } => {
                if pivots.len() < effects.0.len() {
                    let without = effects.0.len() - pivots.len();
                    self.remark(format!(
                        "left out, without a variance of their own: {without} of {replicates} replicates"
                    ));
                }
                let statistic = estimate / std_error;
                self.statistic = Some(statistic);
                let pivots = Sorted::new(pivots.clone());
                let around = |(low, high): (f64, f64)| {
                    (estimate - high * std_error, estimate - low * std_error)
                };
                (
                    pivots.p_value(mirrored.alternative, statistic),
                    pivots.interval(&mirrored).map(around),
                )
            }
            Ends::Bca(acceleration) => {
                let corrected = Corrected::new(&effects, estimate, *acceleration);
                (corrected.p_value(alternative), corrected.interval(inference))
            }
        };
        self.p_value = Some(p_value);
        let Some((lower, upper)) = interval else {
            return self.remark("no interval: too few replicates for this confidence");
        };
        (self.ci_lower, self.ci_upper) = (Some(lower), Some(upper));
        if self.relative.is_none() {
            return;
        }
        self.relative_std_error = Some(relative::std_error(&difference));
        match relative.and_then(|relative| Sorted::new(relative).interval(inference)) {
            Some((lower, upper)) => {
                (self.relative_ci_lower, self.relative_ci_upper) = (Some(lower), Some(upper));
            }
            None => self.remark("no relative interval: replicates of control change their sign"),
        }
    }
}

impl Alternative {
    fn mirrored(self) -> Self {
        match self {
            Self::TwoSided => Self::TwoSided,
            Self::Greater => Self::Less,
            Self::Less => Self::Greater,
        }
    }
}

/// The share of α at an end of an interval.
fn tail(inference: &Inference) -> f64 {
    let alpha = 1.0 - inference.confidence;
    if inference.alternative == Alternative::TwoSided { alpha / 2.0 } else { alpha }
}

/// Replicates in ascending order.
#[derive(Debug)]
pub(super) struct Sorted(Vec<f64>);

impl Sorted {
    pub(super) fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// From the `k`-th smallest to the `k`-th largest; `None` where `k` is 0.
    pub(super) fn interval(&self, inference: &Inference) -> Option<(f64, f64)> {
        // 1 − 0.9 is a little less than 0.1, and 1000 times it a little less than 100.
        let k = (tail(inference) * (self.0.len() as f64 + 1.0) + 1e-9) as usize;
        if k == 0 || self.0.is_empty() {
            return None;
        }
        let (smallest, largest) = (self.0[k - 1], self.0[self.0.len() - k]);
        Some(match inference.alternative {
            Alternative::TwoSided => (smallest, largest),
            Alternative::Greater => (smallest, f64::INFINITY),
            Alternative::Less => (f64::NEG_INFINITY, largest),
        })
    }

    /// The p-value of a null that is `at`; never 0.
    pub(super) fn p_value(&self, alternative: Alternative, at: f64) -> f64 {
        let total = self.0.len() as f64 + 1.0;
        let below = 1.0 + self.0.partition_point(|&x| x <= at) as f64;
        let above = total - self.0.partition_point(|&x| x < at) as f64;
        match alternative {
            Alternative::TwoSided => (2.0 * below.min(above) / total).min(1.0),
            Alternative::Greater => below / total,
            Alternative::Less => above / total,
        }
    }

    /// The normal score of the `k`-th smallest of `B`: the quantile of `k/(B + 1)`.
    fn score(&self, k: usize) -> f64 {
        normal_quantile(k as f64 / (self.0.len() as f64 + 1.0))
    }

    /// The value at a normal score, between two replicates by interpolation of their scores; `None` beyond the
    /// smallest and the largest.
    fn at_score(&self, score: f64) -> Option<f64> {
        let count = self.0.len();
        let rank = normal_sf(-score) * (count as f64 + 1.0);
        // A rank that is whole but for the rounding of the normal law.
        let whole = rank.round();
        if (rank - whole).abs() < 1e-9 && whole >= 1.0 && whole <= count as f64 {
            return Some(self.0[whole as usize - 1]);
        }
        let k = rank as usize;
        if k == 0 || k >= count {
            return None;
        }
        let (low, high) = (self.score(k), self.score(k + 1));
        let (x, next) = (self.0[k - 1], self.0[k]);
        Some(x + (score - low) / (high - low) * (next - x))
    }

    /// The normal score at which the value is `at`: the largest one with `upper`, else the smallest. Beyond the
    /// replicates, that of the first or the last.
    fn score_at(&self, at: f64, upper: bool) -> f64 {
        let count = self.0.len();
        let k = self.0.partition_point(|&x| if upper { x <= at } else { x < at });
        if k == 0 || k == count {
            return self.score(k.clamp(1, count));
        }
        let (x, next) = (self.0[k - 1], self.0[k]);
        let (low, high) = (self.score(k), self.score(k + 1));
        low + (at - x) / (next - x) * (high - low)
    }
}

/// Bias-corrected and accelerated: where the ends of an interval are among the replicates.
#[derive(Debug)]
struct Corrected<'a> {
    effects: &'a Sorted,
    bias: f64,
    acceleration: f64,
}

impl<'a> Corrected<'a> {
    fn new(effects: &'a Sorted, estimate: f64, acceleration: f64) -> Self {
        let below = effects.0.partition_point(|&x| x < estimate);
        let up_to = effects.0.partition_point(|&x| x <= estimate);
        let count = effects.0.len() as f64;
        // Beyond all replicates it would be infinite: no more is known than that it is outside.
        let least = 1.0 / (count + 1.0);
        let share = ((below + up_to) as f64 / (2.0 * count)).clamp(least, 1.0 - least);
        Self { effects, bias: normal_quantile(share), acceleration }
    }

    /// The end at a normal quantile.
    fn end(&self, quantile: f64) -> Option<f64> {
        let reach = self.bias + quantile;
        let scale = 1.0 - self.acceleration * reach;
        let score = self.bias + reach / scale;
        if scale > 0.0 { self.effects.at_score(score) } else { None }
    }

    fn interval(&self, inference: &Inference) -> Option<(f64, f64)> {
        let quantile = normal_isf(tail(inference));
        Some(match inference.alternative {
            Alternative::TwoSided => (self.end(-quantile)?, self.end(quantile)?),
            Alternative::Greater => (self.end(-quantile)?, f64::INFINITY),
            Alternative::Less => (f64::NEG_INFINITY, self.end(quantile)?),
        })
    }

    /// The normal quantile whose end is at a score: [`end`](Self::end) backwards.
    fn quantile_of(&self, score: f64) -> f64 {
        let reach = score - self.bias;
        let scale = 1.0 + self.acceleration * reach;
        if scale > 0.0 { reach / scale - self.bias } else { f64::INFINITY.copysign(reach) }
    }

    /// The smallest α whose interval excludes 0, by the ends backwards; never less than `1/(B + 1)`.
    fn p_value(&self, alternative: Alternative) -> f64 {
        let least = 1.0 / (self.effects.0.len() as f64 + 1.0);
        // The lower end is above 0 while its quantile is above that of 0.
        let greater = || normal_sf(-self.quantile_of(self.effects.score_at(0.0, true)));
        let less = || normal_sf(self.quantile_of(self.effects.score_at(0.0, false)));
        let p = match alternative {
            Alternative::TwoSided => 2.0 * greater().min(less()),
            Alternative::Greater => greater(),
            Alternative::Less => less(),
        };
        p.clamp(least, 1.0)
    }
}

/// The quantile of the normal law, without loss where `p` is small.
fn normal_quantile(p: f64) -> f64 {
    if p < 0.5 { -normal_isf(p) } else { normal_isf(1.0 - p) }
}

/// The sample covariance with divisor `n − 1`, in two passes; NaN for fewer than two values.
pub(super) fn covariance(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let products = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y));
    if x.len() < 2 { f64::NAN } else { products.sum::<f64>() / (n - 1.0) }
}
