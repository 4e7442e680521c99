//! From an estimate with its standard error to a whole [`Effect`]: the one place where statistics, p-values, intervals
//! and relative effects are made.

use crate::compare::effect::Effect;
use crate::compare::relative;
use crate::inference::{Inference, Reach, p_value};
use crate::summary::{Buckets, Columns, Histogram, Moments, Replicates, StratifiedMoments};
use crate::{Error, Result};

/// A difference, treatment − control, with all that is known of its distribution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference {
    /// The difference.
    pub(super) estimate: f64,
    /// Its variance: the squared standard error.
    pub(super) variance: f64,
    /// Degrees of freedom of that variance; infinite for the normal law.
    pub(super) df: f64,
    /// The mean of control that relative effects refer to.
    pub(super) control: f64,
    /// The variance of that mean.
    pub(super) control_variance: f64,
    /// The covariance of the difference and that mean.
    pub(super) covariance: f64,
}

/// The variance of the mean of an arm and its degrees of freedom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variance {
    pub(super) value: f64,
    pub(super) df: f64,
}

impl Difference {
    /// The difference of two independent arms, with the degrees of freedom of Welch and Satterthwaite.
    pub(super) fn welch(estimate: f64, control: f64, t: Variance, c: Variance) -> Self {
        // In shares of the variance, whose squares neither overflow nor underflow.
        let (share_t, share_c) = (t.value / (t.value + c.value), c.value / (t.value + c.value));
        let df = 1.0 / (share_t * share_t / t.df + share_c * share_c / c.df);
        Self::independent(estimate, control, t.value, c.value, df)
    }

    /// The difference of two independent arms.
    pub(super) fn independent(estimate: f64, control: f64, v_t: f64, v_c: f64, df: f64) -> Self {
        let variance = v_t + v_c;
        Self { estimate, variance, df, control, control_variance: v_c, covariance: -v_c }
    }

    /// Adds a source of variance that both arms share: of the difference, of control, and between the two.
    pub(super) fn add_common(&mut self, difference: f64, control: f64, between: f64) {
        self.variance += difference;
        self.control_variance += control;
        self.covariance += between;
    }

    /// Its standard error.
    pub(super) fn std_error(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// What a summary counts of an arm.
pub(super) struct Seen<'a> {
    columns: &'a Columns,
    units: Option<u64>,
    rows: u64,
    dropped: u64,
}

impl<'a> From<&'a Moments> for Seen<'a> {
    fn from(arm: &'a Moments) -> Self {
        let (units, rows) = (Some(arm.n()), arm.n());
        Self { columns: arm.columns(), units, rows, dropped: arm.dropped() }
    }
}

impl<'a> From<&'a StratifiedMoments> for Seen<'a> {
    fn from(arm: &'a StratifiedMoments) -> Self {
        let (units, rows) = (Some(arm.n()), arm.n());
        Self { columns: arm.columns(), units, rows, dropped: arm.dropped() }
    }
}

impl<'a> From<&'a Buckets> for Seen<'a> {
    fn from(arm: &'a Buckets) -> Self {
        let (units, rows) = (arm.units(), arm.rows());
        Self { columns: arm.columns(), units, rows, dropped: arm.dropped() }
    }
}

impl<'a> From<&'a Replicates> for Seen<'a> {
    /// Pairs of two factors are no units.
    fn from(arm: &'a Replicates) -> Self {
        let units = if arm.resampling().crossed { None } else { arm.units() };
        Self { columns: arm.columns(), units, rows: arm.rows(), dropped: arm.dropped() }
    }
}

impl<'a> From<&'a Histogram> for Seen<'a> {
    fn from(arm: &'a Histogram) -> Self {
        let (units, rows) = (arm.units(), arm.rows());
        Self { columns: arm.columns(), units, rows, dropped: arm.dropped() }
    }
}

/// How a remark about units ends whose number is not known.
const NOT_COUNTED: &str = " and not counted";

impl Effect {
    /// An effect of which no more is known than how it is asked for.
    pub(super) fn new(inference: &Inference, method: &str) -> Result<Self> {
        inference.check()?;
        Ok(Self { confidence: inference.confidence, method: method.to_owned(), ..Self::default() })
    }

    /// An effect between moments with `outcomes` outcomes each, with the counts of their rows, which are units.
    pub(super) fn of_moments(
        (t, c): (&Moments, &Moments),
        outcomes: usize,
        inference: &Inference,
        method: &str,
    ) -> Result<Self> {
        let effect = Self::of_arms(t, c, inference, method)?;
        check_outcomes(t.columns().outcomes(), outcomes)?;
        Ok(effect)
    }

    /// An effect between arms of the same columns, with their counts.
    pub(super) fn of_arms<'a, S>(
        t: &'a S,
        c: &'a S,
        inference: &Inference,
        method: &str,
    ) -> Result<Self>
    where
        Seen<'a>: From<&'a S>,
    {
        let (t, c) = (Seen::from(t), Seen::from(c));
        if t.columns != c.columns {
            return Err(Error::Mismatch(format!(
                "expected two summaries of the same columns, found {} for treatment and {} for control",
                t.columns, c.columns
            )));
        }
        Ok(Self {
            n_control: c.units,
            n_treatment: t.units,
            rows_control: c.rows,
            rows_treatment: t.rows,
            n_dropped: t.dropped + c.dropped,
            ..Self::new(inference, method)?
        })
    }

    /// Says where units are that are not counted.
    pub(super) fn remark_uncounted(&mut self, place: &str) {
        if self.n_treatment.is_none() || self.n_control.is_none() {
            self.remark(format!("units are in {place}{NOT_COUNTED}"));
        }
    }

    /// Sets the numbers of units, for who knows them where the summaries do not: that each row of buckets is a unit.
    pub fn count_units(&mut self, treatment: u64, control: u64) {
        (self.n_treatment, self.n_control) = (Some(treatment), Some(control));
        self.note = self.note.take().and_then(|note| {
            let others: Vec<&str> =
                note.split("; ").filter(|r| !r.ends_with(NOT_COUNTED)).collect();
            (!others.is_empty()).then(|| others.join("; "))
        });
    }

    /// Adds to the note.
    pub(super) fn remark(&mut self, text: impl AsRef<str>) {
        let note = self.note.get_or_insert_default();
        if !note.is_empty() {
            note.push_str("; ");
        }
        note.push_str(text.as_ref());
    }

    /// Says so and gives `true` where an arm has no rows at all, so that nothing can be estimated.
    pub(super) fn lacks_rows(&mut self) -> bool {
        let empty = match (self.rows_treatment, self.rows_control) {
            (0, 0) => "no rows in either arm",
            (0, _) => "no rows in treatment",
            (_, 0) => "no rows in control",
            _ => return false,
        };
        self.remark(empty);
        true
    }

    /// Says so and gives `true` where an arm has too few units for a standard error.
    pub(super) fn lacks_units(&mut self, (t, c): (u64, u64), least: u64) -> bool {
        self.lacks_known_units((Some(t), Some(c)), least)
    }

    /// The same where an arm may have many units that are not counted.
    pub(super) fn lacks_known_units(
        &mut self,
        (t, c): (Option<u64>, Option<u64>),
        least: u64,
    ) -> bool {
        let few = t.is_some_and(|t| t < least) || c.is_some_and(|c| c < least);
        if few {
            let text = |n: Option<u64>| n.map_or_else(|| "many".to_owned(), |n| n.to_string());
            self.remark(format!(
                "too few units: a standard error needs at least {least} in each arm, \
                 found {} in treatment and {} in control",
                text(t),
                text(c)
            ));
        }
        few
    }

    /// Sets the estimate, and the relative one over a mean of control.
    pub(super) fn set_estimate(&mut self, estimate: f64, control: f64) {
        self.estimate = Some(estimate);
        self.relative = (control != 0.0).then(|| estimate / control.abs());
        if control == 0.0 {
            self.remark("no relative effect: the mean of control is 0");
        }
    }

    /// Sets the estimate and all inference that follows from it by a Student law.
    pub(super) fn infer(&mut self, inference: &Inference, difference: &Difference) {
        self.set_estimate(difference.estimate, difference.control);
        let std_error = difference.std_error();
        self.std_error = Some(std_error);
        if self.lacks_finiteness(difference) || self.lacks_variance(std_error) {
            return;
        }
        let statistic = difference.estimate / std_error;
        self.statistic = Some(statistic);
        self.df = Some(difference.df);
        self.p_value = Some(p_value(inference.alternative, statistic, difference.df));
        let reach = Reach::new(inference, difference.df);
        let (lower, upper) = reach.around(difference.estimate, std_error);
        (self.ci_lower, self.ci_upper) = (Some(lower), Some(upper));
        self.infer_relative(inference, difference);
    }

    /// Sets the standard error and the interval of the relative effect.
    pub(super) fn infer_relative(&mut self, inference: &Inference, difference: &Difference) {
        if difference.control == 0.0 {
            return;
        }
        let reach = Reach::new(inference, difference.df);
        self.relative_std_error = Some(relative::std_error(difference));
        match relative::interval(inference.relative, difference, reach) {
            Ok((lower, upper)) => {
                (self.relative_ci_lower, self.relative_ci_upper) = (Some(lower), Some(upper));
            }
            Err(why) => self.remark(why),
        }
    }

    /// Says so and gives `true` where the variance is exactly zero: a fact, but no scale to measure the estimate by.
    pub(super) fn lacks_variance(&mut self, std_error: f64) -> bool {
        if std_error == 0.0 {
            self.remark("zero variance: no test and no interval");
        }
        std_error == 0.0
    }

    /// Gives `true` where the values are not finite, and NaN in everything that depends on them. An estimate whose
    /// variance alone is beyond the range of numbers stays.
    pub(super) fn lacks_finiteness(&mut self, difference: &Difference) -> bool {
        let finite = difference.estimate.is_finite()
            && difference.variance.is_finite()
            && difference.control.is_finite();
        if !finite {
            let estimates = (self.estimate, self.relative);
            self.set_not_finite();
            if difference.estimate.is_finite() {
                (self.estimate, self.relative) = estimates;
            }
        }
        !finite
    }

    /// Sets everything that depends on the values to NaN.
    pub(super) fn set_not_finite(&mut self) {
        for field in [
            &mut self.estimate,
            &mut self.std_error,
            &mut self.statistic,
            &mut self.df,
            &mut self.p_value,
            &mut self.ci_lower,
            &mut self.ci_upper,
            &mut self.relative,
            &mut self.relative_std_error,
            &mut self.relative_ci_lower,
            &mut self.relative_ci_upper,
        ] {
            *field = Some(f64::NAN);
        }
        self.remark("values are NaN, infinite or too large to square");
    }
}

/// Checks the number of outcomes of a summary.
pub(super) fn check_outcomes(found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Invalid(format!("expected a summary of {expected} outcome(s), found {found}")))
}
