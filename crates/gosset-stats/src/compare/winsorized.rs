//! Winsorized means: the difference of means of values that are capped at quantiles of both arms.

use super::dyadic::mean_difference;
use super::effect::Effect;
use super::ttest::{Variance, ttest, welch};
use crate::inference::Inference;
use crate::summary::{Bin, BinnedMoments};
use crate::{Error, Result};

/// Where values are capped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caps {
    /// Share of the units of both arms below the lower cap; 0 for none.
    pub lower: f64,
    /// Share of the units of both arms up to the upper cap; 1 for none.
    pub upper: f64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { lower: 0.0, upper: 0.99 }
    }
}

impl Caps {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `lower` is from 0 to 0.5 and `upper` from 0.5 to 1.
    pub fn check(&self) -> Result<()> {
        if (0.0..=0.5).contains(&self.lower) && (0.5..=1.0).contains(&self.upper) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "expected a lower cap from 0 to 0.5 and an upper one from 0.5 to 1, found {} and {}",
            self.lower, self.upper
        )))
    }

    /// The values that these are, lower and upper, where there are any: quantiles of the rows of bins in ascending order. The
    /// lower one is the smallest value of its bin and the upper one the largest, so that no bin has values on both sides.
    pub fn limits(&self, bins: &[Bin]) -> (Option<f64>, Option<f64>) {
        let n: u64 = bins.iter().map(|bin| bin.rows).sum();
        let bin_of = |rank: u64| {
            let mut seen = 0;
            bins.iter().find(|bin| {
                seen += bin.rows;
                seen >= rank
            })
        };
        let below = whole(self.lower * n as f64).floor() as u64;
        let up_to = whole(self.upper * n as f64).ceil() as u64;
        let lower = (self.lower > 0.0).then(|| bin_of(below + 1)).flatten().map(|bin| bin.min);
        let upper = (self.upper < 1.0).then(|| bin_of(up_to.max(1))).flatten().map(|bin| bin.max);
        (lower, upper)
    }
}

/// The difference of winsorized means; every row is a unit.
///
/// Formula: the values of both arms in ascending order are `y_(1) … y_(N)`; those above `b = y_(⌈upper·N⌉)` count as
/// `b`, those below `a = y_(⌊lower·N⌋ + 1)` as `a`. The rest is Welch's test of these values. The caps are those of both
/// arms together, so that they hold no trace of which arm a value is of. Where values share bins (see [`BinnedMoments`])
/// `b` is the largest value of its bin and `a` the smallest: a little more than the share asked for is left as it is, and
/// sums are exact.
///
/// This estimates the effect on the capped value, another one than that on the value where the cap binds: `note` says the
/// caps, how many units are beyond them and the uncapped effect, `mean_*` are uncapped, and `variance_reduction` compares
/// with Welch's test of the uncapped values.
///
/// Assumptions: as [`ttest`]; the caps count as fixed. How they vary moves the difference only as far as the arms have
/// different shares of units beyond them.
///
/// Small samples: as [`ttest`].
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns or relative errors, [`Error::Invalid`] as [`Caps::check`] and
/// for a confidence outside of (0, 1).
///
/// # References
/// Tukey and McLaughlin (1963), Less vulnerable confidence and significance procedures for location based on a single
/// sample: trimming/Winsorization 1, Sankhya A 25(3), 331–352. Kohavi, Tang and Xu (2020), Trustworthy online controlled
/// experiments, Cambridge University Press, chapter 22, doi:10.1017/9781108653985.
pub fn winsorized(
    t: &BinnedMoments,
    c: &BinnedMoments,
    inference: &Inference,
    caps: &Caps,
) -> Result<Effect> {
    caps.check()?;
    let (t, c) = BinnedMoments::aligned(t, c)?;
    let (lower, upper) = caps.limits(&pooled(&t.bins(), &c.bins()));
    let ((plain_t, _), (plain_c, _)) = (t.capped(None, None), c.capped(None, None));
    let ((of_t, beyond_t), (of_c, beyond_c)) = (t.capped(lower, upper), c.capped(lower, upper));
    let mut effect = Effect {
        method: "winsorized".into(),
        ..ttest(&of_t, &of_c, inference, Variance::Unequal)?
    };
    let plain = ttest(&plain_t, &plain_c, inference, Variance::Unequal)?;
    (effect.mean_treatment, effect.mean_control) = (plain.mean_treatment, plain.mean_control);
    if effect.estimate.is_none_or(f64::is_nan) {
        return Ok(effect);
    }
    if let (Some(_), Some(_)) = (effect.std_error, plain.std_error) {
        let whole = |t, c| welch(t, c, mean_difference(t, c, &[(0, 1.0)]));
        effect.set_variance_reduction(&whole(&of_t, &of_c), &whole(&plain_t, &plain_c));
    }
    let named = [("lower", lower), ("upper", upper)];
    let named = named.into_iter().filter_map(|(name, cap)| Some(format!("{name} cap {}", cap?)));
    let beyond = format!(
        "{beyond_t} of {} units of treatment and {beyond_c} of {} of control are beyond",
        of_t.n(),
        of_c.n()
    );
    let shown = |x: Option<f64>| x.map_or_else(|| "none".to_owned(), |x| x.to_string());
    let uncapped = format!(
        "uncapped: estimate {}, standard error {}",
        shown(plain.estimate),
        shown(plain.std_error)
    );
    let notes: Vec<String> = named.chain([beyond, uncapped]).collect();
    effect.remark(notes.join("; "));
    Ok(effect)
}

/// The bins of both arms in ascending order.
fn pooled(t: &[Bin], c: &[Bin]) -> Vec<Bin> {
    let mut bins: Vec<Bin> = t.iter().chain(c).copied().collect();
    bins.sort_by(Bin::order);
    let mut pooled: Vec<Bin> = Vec::with_capacity(bins.len());
    for bin in bins {
        match pooled.last_mut() {
            Some(last) if last.order(&bin).is_eq() => last.join(&bin),
            _ => pooled.push(bin),
        }
    }
    pooled
}

/// A product that is whole but for its rounding: 0.07 of 100 is 7.
fn whole(x: f64) -> f64 {
    if (x - x.round()).abs() <= 1e-12 * x { x.round() } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{BinnedTable, Columns, Moments, Rows, Summary, Table};

    fn arm(values: &[f64]) -> BinnedMoments {
        let columns = Columns::new(["y".to_owned()], 1).expect("valid columns");
        let mut table = BinnedTable::new(columns, 0.001).expect("valid options");
        table.resize(1);
        for batch in values.chunks(700) {
            table.update(Rows {
                slots: &vec![0; batch.len()],
                columns: &[batch],
                missing: &[None],
                ..Rows::default()
            });
        }
        table.get(0)
    }

    fn effect(t: &[f64], c: &[f64], lower: f64, upper: f64) -> Effect {
        let caps = Caps { lower, upper };
        winsorized(&arm(t), &arm(c), &Inference::default(), &caps).expect("valid summaries")
    }

    fn welch_of(t: &[f64], c: &[f64]) -> Effect {
        let of = |y: &[f64]| Moments::of(&["y"], 1, &[y]).expect("valid columns");
        ttest(&of(t), &of(c), &Inference::default(), Variance::Unequal).expect("valid summaries")
    }

    fn numbers(e: &Effect) -> [Option<f64>; 5] {
        [e.estimate, e.std_error, e.df, e.relative, e.ci_lower]
    }

    #[test]
    fn values_beyond_the_order_statistics_of_both_arms_count_as_these() {
        // Twenty values, 1 to 20: the upper 0.9 quantile is 18, the lower of a share of 0.07 (1.4 units) is 2.
        let (t, c): (Vec<f64>, Vec<f64>) =
            (1..=20).map(f64::from).partition(|x| (x / 2.0).fract() > 0.0);
        let e = effect(&t, &c, 0.07, 0.9);
        let cap = |y: &[f64]| y.iter().map(|y| y.clamp(2.0, 18.0)).collect::<Vec<_>>();
        assert_eq!(numbers(&e), numbers(&welch_of(&cap(&t), &cap(&c))));
        assert_eq!((e.mean_treatment, e.mean_control), (Some(10.0), Some(11.0)));
        let (of, uncapped) =
            (e.std_error.expect("defined"), welch_of(&t, &c).std_error.expect("defined"));
        let bought = e.variance_reduction.expect("defined");
        assert!((bought - (1.0 - (of / uncapped).powi(2))).abs() < 1e-15);
        let note = e.note.expect("a note");
        let expected = "lower cap 2; upper cap 18; 2 of 10 units of treatment and 1 of 10 of control are beyond; uncapped: estimate -1, ";
        assert!(note.starts_with(expected), "{note}");
    }

    #[test]
    fn many_values_share_bins_and_sums_are_still_exact() {
        let values = |n: u32, step: f64| -> Vec<f64> {
            (0..n).map(|i| (f64::from(i) * step).sin().exp() * f64::from(1 + i % 97)).collect()
        };
        let (t, c) = (values(6000, 0.37), values(1500, 0.71));
        let e = effect(&t, &c, 0.01, 0.95);
        let note = e.note.clone().expect("a note");
        let number = |after: &str| -> f64 {
            let rest = &note[note.find(after).expect("a cap") + after.len()..];
            rest[..rest.find(';').expect("an end")].parse().expect("a number")
        };
        let (lower, upper) = (number("lower cap "), number("upper cap "));
        let cap = |y: &[f64]| y.iter().map(|y| y.clamp(lower, upper)).collect::<Vec<_>>();
        assert_eq!(numbers(&e), numbers(&welch_of(&cap(&t), &cap(&c))));
        // The caps are no further from the quantiles than bins are wide.
        let mut all = [t, c].concat();
        all.sort_by(f64::total_cmp);
        let (a, b) = (all[75], all[(0.95f64 * 7500.0) as usize - 1]);
        assert!(lower <= a && lower > 0.998 * a && upper >= b && upper < 1.002 * b, "{note}");
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let values: Vec<f64> = (0..5000).map(|i| f64::from(i * i % 4999) / 7.0).collect();
        let whole = arm(&values);
        for at in [0, 1, 100, 2047, 2048, 2049, 4999] {
            let (mut left, right) = (arm(&values[..at]), arm(&values[at..]));
            left.merge(&BinnedMoments::decode(&right.encode()).expect("own bytes"))
                .expect("same columns");
            assert_eq!(left.encode(), whole.encode(), "{at}");
        }
    }

    #[test]
    fn without_caps_it_is_the_plain_test_and_nan_is_nan() {
        let (t, c) = ([1.0, 2.0, 4.0, 100.0], [1.0, 3.0, 5.0]);
        assert_eq!(numbers(&effect(&t, &c, 0.0, 1.0)), numbers(&welch_of(&t, &c)));
        let e = effect(&[1.0, f64::INFINITY, 2.0], &c, 0.0, 0.9);
        assert!(e.estimate.expect("NaN").is_nan());
        assert_eq!(effect(&[], &c, 0.0, 0.9).note.as_deref(), Some("no rows in treatment"));
    }
}
