//! The adjustment of clusters for covariates.

use super::clustered::{Arm, Clustered, Totals};
use super::effect::Effect;
use super::infer::{Difference, check_outcomes};
use super::metric::Metric;
use crate::linalg::Factor;
use crate::summary::moments::INDICATOR;
use crate::summary::{Buckets, Columns};
use crate::{Error, Result};

/// Two arms as clusters of `y − θ'x`.
#[derive(Debug)]
pub(super) struct Adjusted {
    pub(super) clustered: Clustered,
    unadjusted: Difference,
    columns: Columns,
    kept: Vec<usize>,
    left_out: Vec<usize>,
    theta: Vec<f64>,
    /// Indicators of covariates that are missing somewhere, with the number of rows.
    missing: Vec<(usize, f64)>,
}

impl Adjusted {
    /// The columns of covariates that are used, with their coefficients.
    pub(super) fn theta(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.kept.iter().copied().zip(self.theta.iter().copied())
    }
}

impl Effect {
    /// As [`cluster`](Self::cluster), for the means of `y − θ'x`: θ from the residuals of clusters within the arms.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than one outcome and without covariates.
    pub(super) fn cluster_adjusted(
        &mut self,
        t: &Buckets,
        c: &Buckets,
        least: u64,
    ) -> Result<Option<Adjusted>> {
        let columns = t.columns();
        check_outcomes(columns.outcomes(), 1)?;
        if columns.covariates() == 0 {
            return Err(Error::Invalid("expected at least one covariate, found none".into()));
        }
        let Some(plain) = self.cluster((t, c), Metric::mean(0), least) else { return Ok(None) };
        let unadjusted = plain.difference();
        // By column, its residuals in both arms and its difference of means.
        let mut residuals = vec![(plain.t.residuals.clone(), plain.c.residuals.clone(), 0.0)];
        for column in 1..columns.len() {
            let [totals_t, totals_c] = [t, c].map(|arm| Totals::of(arm, Metric::mean(column)));
            let Some((arm_t, arm_c)) = totals_t.arm(t).zip(totals_c.arm(c)) else {
                self.set_not_finite();
                return Ok(None);
            };
            residuals.push((arm_t.residuals, arm_c.residuals, totals_t.minus(&totals_c)));
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let pooled = |i: usize, j: usize| {
            dot(&residuals[i].0, &residuals[j].0) + dot(&residuals[i].1, &residuals[j].1)
        };
        let mut factor = Factor::default();
        let (mut kept, mut left_out): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for column in 1..columns.len() {
            let row: Vec<f64> = kept.iter().chain([&column]).map(|&k| pooled(column, k)).collect();
            match factor.next_row(&row) {
                Some(row) => {
                    factor.push(row);
                    kept.push(column);
                }
                None => left_out.push(column),
            }
        }
        let with_outcome: Vec<f64> = kept.iter().map(|&column| pooled(column, 0)).collect();
        let theta = factor.solve(&with_outcome);
        let mut clustered = plain;
        let mut shift = 0.0;
        for (&column, theta) in kept.iter().zip(&theta) {
            let (of_t, of_c, difference) = &residuals[column];
            clustered.t.subtract(*theta, of_t);
            clustered.c.subtract(*theta, of_c);
            shift -= theta * difference;
        }
        clustered.estimate += shift;
        // The mean of control at the covariates' mean over both arms: x̄_c − x̄ is −n_t/N of x̄_t − x̄_c.
        clustered.c.mean -= shift * t.rows() as f64 / (t.rows() + c.rows()) as f64;
        let sums = [t, c].map(|arm| arm.sum().sums);
        let missing = (1..columns.len())
            .filter(|&i| columns.names()[i].ends_with(INDICATOR))
            .map(|i| (i, sums[0][i].to_f64() + sums[1][i].to_f64()))
            .filter(|(_, rows)| *rows > 0.0)
            .collect();
        let columns = columns.clone();
        Ok(Some(Adjusted { clustered, unadjusted, columns, kept, left_out, theta, missing }))
    }

    /// Says what the adjustment bought, which covariates were missing and which it left out.
    pub(super) fn remark_adjustment(&mut self, adjusted: &Adjusted) {
        self.set_variance_reduction(&adjusted.clustered.difference(), &adjusted.unadjusted);
        let names = adjusted.columns.names();
        let missing = adjusted.missing.iter();
        self.remark_missing(missing.map(|&(column, rows)| (names[column].clone(), rows)));
        // The indicator of a covariate that is missing nowhere says nothing.
        let is_missing = |i: usize| adjusted.missing.iter().any(|(column, _)| *column == i);
        let idle = |i: usize| names[i].ends_with(INDICATOR) && !is_missing(i);
        let left_out = adjusted.left_out.iter().filter(|&&i| !idle(i)).map(|&i| names[i].clone());
        self.remark_left_out(left_out, adjusted.kept.is_empty());
    }
}

impl Arm {
    /// Takes `theta` times the residuals of a covariate from those of the outcome.
    fn subtract(&mut self, theta: f64, residuals: &[f64]) {
        self.residuals.iter_mut().zip(residuals).for_each(|(e, x)| *e -= theta * x);
    }
}
