//! What the adjusted comparisons share: which covariates are used, and what is said of it.

use super::dyadic::variance;
use super::effect::Effect;
use super::infer::Difference;
use crate::inference::Inference;
use crate::summary::Moments;
use crate::summary::moments::NUMERATOR;
use crate::{Error, Result};

/// The columns that an adjustment uses.
#[derive(Debug)]
pub(super) struct Kept {
    /// Columns of covariates and indicators, in their order.
    pub(super) columns: Vec<usize>,
    left_out: Vec<usize>,
}

impl Kept {
    /// Takes the covariates in their order, as far as `independent` says of a column and those kept before it.
    pub(super) fn choose(
        candidates: impl IntoIterator<Item = usize>,
        mut independent: impl FnMut(usize, &[usize]) -> bool,
    ) -> Self {
        let mut kept = Self { columns: Vec::new(), left_out: Vec::new() };
        for column in candidates {
            if independent(column, &kept.columns) {
                kept.columns.push(column);
            } else {
                kept.left_out.push(column);
            }
        }
        kept
    }

    /// The weights of `y − Σ θ_j x_j` over the columns.
    pub(super) fn weights(&self, theta: &[f64]) -> Vec<(usize, f64)> {
        let adjustment = self.columns.iter().zip(theta).map(|(&column, theta)| (column, -theta));
        [(0, 1.0)].into_iter().chain(adjustment).collect()
    }
}

/// The variance within an arm of what the covariates leave of the outcome.
///
/// It is exact for the coefficients, but those are rounded: where they explain all but a 1e-24th of the variance, what
/// is left is their rounding, and the truth is 0.
pub(super) fn residual_variance(arm: &Moments, weights: &[(usize, f64)]) -> f64 {
    let residual = variance(arm, weights);
    if residual <= 1e-24 * variance(arm, &weights[..1]) { 0.0 } else { residual }
}

impl Effect {
    /// An effect that is adjusted for covariates, and the two summaries with the indicator columns of both.
    pub(super) fn adjusted(
        (t, c): (&Moments, &Moments),
        outcomes: usize,
        inference: &Inference,
        method: &str,
    ) -> Result<(Self, Moments, Moments)> {
        let effect = Self::of_moments((t, c), outcomes, inference, method)?;
        if t.columns().covariates() == 0 {
            return Err(Error::Invalid("expected at least one covariate, found none".into()));
        }
        let (t, c) = Moments::aligned(t, c)?;
        Ok((effect, t, c))
    }

    /// Says which covariates were missing in rows and which were left out.
    pub(super) fn remark_covariates(&mut self, t: &Moments, c: &Moments, kept: &Kept) {
        let indicators = t.columns().len()..t.width();
        let rows = |i: usize| t.sum(i).to_f64() + c.sum(i).to_f64();
        self.remark_missing(indicators.map(|i| (t.name(i), rows(i))));
        let name = |&i: &usize| t.name(i).trim_end_matches(NUMERATOR).to_owned();
        self.remark_left_out(kept.left_out.iter().map(name), kept.columns.is_empty());
    }

    /// Says which covariates were missing, by their indicators and in how many rows.
    pub(super) fn remark_missing(&mut self, missing: impl Iterator<Item = (String, f64)>) {
        let (names, rows): (Vec<String>, Vec<String>) =
            missing.map(|(name, rows)| (format!("'{name}'"), rows.to_string())).unzip();
        if !names.is_empty() {
            self.remark(format!(
                "missing covariates are 0 with an indicator: {} in {} rows",
                names.join(", "),
                rows.join(", ")
            ));
        }
    }

    /// Says which covariates were left out, and if none is left.
    pub(super) fn remark_left_out(&mut self, names: impl Iterator<Item = String>, none_left: bool) {
        let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
        if !names.is_empty() {
            self.remark(format!(
                "left out, constant or dependent on the covariates before: {}",
                names.join(", ")
            ));
        }
        if none_left {
            self.remark("not adjusted: no covariate is left");
        }
    }

    /// Sets the share of the unadjusted variance that the adjustment takes away.
    pub(super) fn set_variance_reduction(&mut self, adjusted: &Difference, plain: &Difference) {
        let finite = adjusted.variance.is_finite() && plain.variance.is_finite();
        self.variance_reduction = match finite {
            true if plain.variance == 0.0 => None,
            true => Some(1.0 - adjusted.variance / plain.variance),
            false => Some(f64::NAN),
        };
    }
}
