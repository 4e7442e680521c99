//! Linear models from a [`Gram`]: least squares with classical, heteroskedasticity-consistent and cluster-robust
//! standard errors, contrasts, and conditional effects by segment.
//!
//! The normal equations are formed exactly from the sums in the summary, rounded to 106 bits once and solved with as
//! many. So the coefficients are as good as those of a QR decomposition in doubles squared, and the same bits on every
//! machine, in every order and under every split of the rows.
//!
//! Rows with weights `w` are those of the regression times `√w`: weighted least squares, where weights say how precise a
//! row is (its variance is `σ²/w`), not how often it was seen. Estimates and robust covariances are those of `lm(weights
//! = w)` in R and of `WLS` in statsmodels.
//!
//! References: Wong, J., Forsell, E., Lewis, R., Mao, T. and Wardrop, M. (2021). You only compress once: optimal data
//! compression for estimating linear models, arXiv:2102.11297; MacKinnon, J. G. and White, H. (1985). Some
//! heteroskedasticity-consistent covariance matrix estimators with improved finite sample properties. Journal of
//! Econometrics 29, 305–325; Cameron, A. C., Gelbach, J. B. and Miller, D. L. (2011). Robust inference with multiway
//! clustering. Journal of Business & Economic Statistics 29, 238–249, doi:10.1198/jbes.2010.07136.

mod design;
mod effects;
mod fit;
#[cfg(test)]
mod tests;
mod vcov;

use crate::inference::{Alternative, Inference, Reach, p_value};
use std::collections::BTreeMap;

pub use effects::{ConditionalEffect, Contrast, conditional_effects, contrast};

use crate::double_double::Dd;
use crate::summary::Gram;
use crate::{Error, Result};
use fit::{Fit, Outcome};
use vcov::Covariance;

/// The name of the column of ones.
pub const INTERCEPT: &str = "intercept";

/// A variance is nothing where it is less than this share of the residuals' sum of squares at the same leverage.
const NOISE: f64 = 1e-24;

/// The most columns of a design.
pub const MAX_COLUMNS: usize = 1000;

/// How the covariance of coefficients is estimated. `e` are residuals, `h` leverages, `s_g = Σ x e` over a cluster, of `n`
/// rows, `p` coefficients and `G` clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vcov {
    /// `s² (X'X)⁻¹` with `s² = Σe²/(n − p)`.
    Classical,
    /// White's: `(X'X)⁻¹ Σ x x' e² (X'X)⁻¹`.
    Hc0,
    /// The same times `n/(n − p)`.
    Hc1,
    /// With `e²/(1 − h)`.
    Hc2,
    /// With `e²/(1 − h)²`.
    Hc3,
    /// `(X'X)⁻¹ Σ_g s_g s_g' (X'X)⁻¹`; clustered by two factors `V_A + V_B − V_AB`.
    Cr0,
    /// The same times `G/(G − 1) · (n − 1)/(n − p)`, each of the three with its own `G`.
    Cr1,
}

impl Vcov {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Classical, Self::Hc0, Self::Hc1, Self::Hc2, Self::Hc3, Self::Cr0, Self::Cr1];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classical => "classical",
            Self::Hc0 => "HC0",
            Self::Hc1 => "HC1",
            Self::Hc2 => "HC2",
            Self::Hc3 => "HC3",
            Self::Cr0 => "CR0",
            Self::Cr1 => "CR1",
        }
    }

    /// Whether it is one of clusters; `None` where it is both.
    fn of_clusters(self) -> Option<bool> {
        match self {
            Self::Classical => None,
            Self::Cr0 | Self::Cr1 => Some(true),
            _ => Some(false),
        }
    }
}

/// What is asked of a linear model.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearOptions {
    /// The name of the outcome, which may be left out where there is one.
    pub outcome: Option<String>,
    /// Whether there is a column of ones.
    pub intercept: bool,
    /// Interactions beside the regressors themselves, as `a:b`: of factors, and of factors with a number.
    pub interactions: Vec<String>,
    /// The reference level of factors, by their name; the first label in order where none is given.
    pub reference: BTreeMap<String, String>,
    /// Regressors that are left out.
    pub exclude: Vec<String>,
    /// How the covariance of coefficients is estimated: HC1, or CR1 where rows are clustered, where none is given.
    pub vcov: Option<Vcov>,
    /// The confidence level of intervals.
    pub confidence: f64,
}

impl Default for LinearOptions {
    fn default() -> Self {
        Self {
            outcome: None,
            intercept: true,
            interactions: Vec::new(),
            reference: BTreeMap::new(),
            exclude: Vec::new(),
            vcov: None,
            confidence: 0.95,
        }
    }
}

impl LinearOptions {
    fn inference(&self) -> Result<Inference> {
        let (confidence, alternative) = (self.confidence, Alternative::TwoSided);
        let inference = Inference { confidence, alternative, ..Inference::default() };
        inference.check()?;
        Ok(inference)
    }

    /// The covariance that is meant for a summary.
    fn vcov(&self, gram: &Gram) -> Result<Vcov> {
        let clustered = gram.columns().clusters() > 0;
        let Some(vcov) = self.vcov else {
            return Ok(if clustered { Vcov::Cr1 } else { Vcov::Hc1 });
        };
        match (vcov.of_clusters(), clustered) {
            (Some(true), false) => Err(Error::Invalid(format!(
                "expected rows with clusters for {}, found rows without",
                vcov.name()
            ))),
            (Some(false), true) => Err(Error::Invalid(format!(
                "expected CR1, CR0 or classical for rows with clusters, found {}",
                vcov.name()
            ))),
            _ => Ok(vcov),
        }
    }
}

/// An estimate with its inference by Student's law; a field that is not defined is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// The estimate.
    pub estimate: Option<f64>,
    /// Its standard error.
    pub std_error: Option<f64>,
    /// The estimate over its standard error.
    pub statistic: Option<f64>,
    /// Degrees of freedom: `n − p`, or `G − 1` where rows are clustered.
    pub df: Option<f64>,
    /// The two-sided p-value.
    pub p_value: Option<f64>,
    /// The lower end of the interval.
    pub ci_lower: Option<f64>,
    /// The upper end of the interval.
    pub ci_upper: Option<f64>,
}

impl Estimate {
    const NOT_FINITE: Self = {
        let nan = Some(f64::NAN);
        Self {
            estimate: nan,
            std_error: nan,
            statistic: nan,
            df: nan,
            p_value: nan,
            ci_lower: nan,
            ci_upper: nan,
        }
    };

    fn new(estimate: f64, variance: Option<f64>, df: f64, inference: &Inference) -> Self {
        let alone = Self { estimate: Some(estimate), ..Self::default() };
        let Some(variance) = variance else { return alone };
        if !estimate.is_finite() || !variance.is_finite() {
            return Self { estimate: Some(estimate), ..Self::NOT_FINITE };
        }
        // A variance of two-way clusters may be negative: it is none.
        if variance < 0.0 {
            return alone;
        }
        let std_error = variance.sqrt();
        if std_error == 0.0 {
            return Self { std_error: Some(0.0), ..alone };
        }
        let statistic = estimate / std_error;
        let (lower, upper) = Reach::new(inference, df).around(estimate, std_error);
        Self {
            estimate: Some(estimate),
            std_error: Some(std_error),
            statistic: Some(statistic),
            df: Some(df),
            p_value: Some(p_value(inference.alternative, statistic, df)),
            ci_lower: Some(lower),
            ci_upper: Some(upper),
        }
    }
}

/// A coefficient of a linear model.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficient {
    /// The name of its column: `intercept`, `x`, `factor[level]`, `factor[level]:x`.
    pub term: String,
    /// Its estimate; nothing where the column depends on those before it.
    pub estimate: Estimate,
}

/// A linear model that was fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearFit {
    /// The coefficients, in the order of the columns.
    pub coefficients: Vec<Coefficient>,
    /// The covariance matrix of the coefficients.
    pub vcov: Vec<Vec<Option<f64>>>,
    /// Rows.
    pub n: u64,
    /// Rows left out.
    pub n_dropped: u64,
    /// Clusters, or buckets of clusters; the smaller number where they are of two factors.
    pub clusters: Option<u64>,
    /// `n − p`.
    pub df_residual: Option<u64>,
    /// The share of the variance of the outcome (its square, without an intercept) that the model explains.
    pub r_squared: Option<f64>,
    /// The same with both variances divided by their degrees of freedom.
    pub adjusted_r_squared: Option<f64>,
    /// `√(Σe²/(n − p))`.
    pub residual_std_error: Option<f64>,
    /// The confidence level of the intervals.
    pub confidence: f64,
    /// What was done.
    pub method: String,
    /// Why a field is missing, and what was left out or fell back.
    pub note: Option<String>,
}

/// Fits an outcome of a summary to a design of its regressors by least squares.
///
/// Columns that depend on those before them are left out and named in the note; their coefficients are missing. Where
/// there are as many coefficients as rows there are no standard errors, where there are more columns than rows there is
/// nothing. HC0 to HC3 need the distinct rows, and are missing where the summary has merged them; clusters are then
/// buckets of clusters. Values that are not finite give NaN.
///
/// # Errors
/// [`Error::Invalid`] for a name that no outcome or regressor has, a covariance that the summary cannot have, an
/// interaction of two numbers, and a design of more than [`MAX_COLUMNS`] columns.
pub fn ols(gram: &Gram, options: &LinearOptions) -> Result<LinearFit> {
    let model = Model::new(gram, options)?;
    let mut summary = LinearFit {
        coefficients: Vec::new(),
        vcov: Vec::new(),
        n: gram.n(),
        n_dropped: gram.dropped(),
        clusters: None,
        df_residual: None,
        r_squared: None,
        adjusted_r_squared: None,
        residual_std_error: None,
        confidence: options.confidence,
        method: model.method(),
        note: None,
    };
    match &model.outcome {
        Outcome::Undefined(names, _) => summary.fill(names, Estimate::default(), None),
        Outcome::NotFinite(names) => {
            summary.fill(names, Estimate::NOT_FINITE, Some(f64::NAN));
            let nan = Some(f64::NAN);
            (summary.r_squared, summary.adjusted_r_squared) = (nan, nan);
            summary.residual_std_error = nan;
        }
        Outcome::Fitted(fit) => {
            let (n, rank) = (fit.n(), fit.rank());
            summary.df_residual = Some(n - rank);
            if !fit.total.is_zero() {
                let share = fit.residual / fit.total;
                summary.r_squared = Some((Dd::ONE - share).to_f64());
                let total_df = n - u64::from(fit.design.intercept);
                if n > rank {
                    let share = share * Dd::from(total_df) / Dd::from(n - rank);
                    summary.adjusted_r_squared = Some((Dd::ONE - share).to_f64());
                }
            }
            if n > rank {
                let variance = (fit.residual / Dd::from(n - rank)).to_f64();
                summary.residual_std_error = Some(variance.sqrt());
            }
            let covariance = model.covariance.as_ref();
            summary.clusters = covariance.and_then(|covariance| covariance.clusters);
            for (name, &kept) in fit.design.names.iter().zip(&fit.kept) {
                let estimate = kept.map(|i| model.estimate(fit, &[(i, Dd::ONE)]));
                summary.coefficients.push(Coefficient {
                    term: name.clone(),
                    estimate: estimate.unwrap_or_default(),
                });
                let entry =
                    |other: &Option<usize>| Some(covariance?.matrix[kept?][(*other)?].to_f64());
                summary.vcov.push(fit.kept.iter().map(entry).collect());
            }
        }
    }
    summary.note = model.note(summary.coefficients.iter().map(|c| &c.estimate));
    Ok(summary)
}

impl LinearFit {
    fn fill(&mut self, names: &[String], estimate: Estimate, covariance: Option<f64>) {
        let coefficient = |name: &String| Coefficient { term: name.clone(), estimate };
        self.coefficients = names.iter().map(coefficient).collect();
        self.vcov = vec![vec![covariance; names.len()]; names.len()];
    }
}

/// A fit with the covariance that was asked for.
struct Model<'a> {
    gram: &'a Gram,
    vcov: Vcov,
    inference: Inference,
    outcome: Outcome<'a>,
    covariance: Option<Covariance>,
    remarks: Vec<String>,
}

impl<'a> Model<'a> {
    fn new(gram: &'a Gram, options: &LinearOptions) -> Result<Self> {
        let (inference, vcov) = (options.inference()?, options.vcov(gram)?);
        let outcome = Fit::of(gram, options)?;
        let mut model =
            Self { gram, vcov, inference, outcome, covariance: None, remarks: Vec::new() };
        if gram.dropped() > 0 {
            model.remarks.push(format!(
                "{} rows are left out, where a value is NULL or the weight is 0",
                gram.dropped()
            ));
        }
        match &model.outcome {
            Outcome::Undefined(_, why) => model.remarks.push(why.clone()),
            Outcome::NotFinite(_) => {
                model.remarks.push("values are NaN, infinite or too large to square".to_owned());
            }
            Outcome::Fitted(fit) => {
                let missing = fit.missing().into_iter().map(|(name, rows)| match rows {
                    Some(rows) => format!("'{name}' in {rows} rows"),
                    None => format!("'{name}'"),
                });
                let missing: Vec<String> = missing.collect();
                if !missing.is_empty() {
                    model.remarks.push(format!(
                        "missing regressors are 0 with an indicator: {}",
                        missing.join(", ")
                    ));
                }
                let dropped = fit.dropped();
                if !dropped.is_empty() {
                    let names: Vec<String> = dropped.iter().map(|&name| name.to_owned()).collect();
                    model.remarks.push(format!(
                        "left out, constant or dependent on the columns before: {}",
                        design::listed(&names)
                    ));
                }
                match fit.covariance(vcov) {
                    Ok(covariance) => {
                        if gram.distinct_rows().is_none() && covariance.clusters.is_some() {
                            model.remarks.push(format!(
                                "clusters are in buckets and not counted: with their factors they are more than \
                                 max_rows: {}",
                                gram.max_rows()
                            ));
                        }
                        model.covariance = Some(covariance);
                    }
                    Err(why) => model.remarks.push(why),
                }
            }
        }
        Ok(model)
    }

    fn method(&self) -> String {
        let columns = self.gram.columns();
        let kind =
            if columns.weighted() { "weighted least squares" } else { "ordinary least squares" };
        let of = match (columns.clusters(), self.gram.distinct_rows()) {
            _ if self.vcov.of_clusters() != Some(true) => "",
            (2, _) => " by clusters of two factors",
            (_, Some(_)) => " by clusters",
            _ => " by buckets of clusters",
        };
        format!("{kind}, {}{of}", self.vcov.name())
    }

    /// The estimate of a combination of the coefficients that are kept.
    fn estimate(&self, fit: &Fit<'_>, weights: &[(usize, Dd)]) -> Estimate {
        let estimate = weights.iter().fold(Dd::ZERO, |sum, &(i, w)| sum + w * fit.coefficients[i]);
        let form = |matrix: &[Vec<Dd>]| {
            let row = |&(i, w): &(usize, Dd)| {
                w * weights.iter().fold(Dd::ZERO, |sum, &(j, v)| sum + matrix[i][j] * v)
            };
            weights.iter().map(row).fold(Dd::ZERO, |sum, x| sum + x)
        };
        let variance = self.covariance.as_ref().map(|covariance| {
            let variance = form(&covariance.matrix).to_f64();
            // Scores of clusters that add up to nothing leave their rounding.
            let scale = (form(&fit.inverse) * fit.residual).to_f64();
            if variance.abs() <= NOISE * scale { 0.0 } else { variance }
        });
        let df = self.covariance.as_ref().map_or(f64::NAN, |covariance| covariance.df);
        Estimate::new(estimate.to_f64(), variance, df, &self.inference)
    }

    /// The remarks, and why estimates have no standard error or no test.
    fn note<'e>(&self, estimates: impl Iterator<Item = &'e Estimate>) -> Option<String> {
        let mut remarks = self.remarks.clone();
        let (mut negative, mut zero) = (false, false);
        for e in estimates.filter(|_| self.covariance.is_some()) {
            negative |= e.estimate.is_some() && e.std_error.is_none();
            zero |= e.std_error == Some(0.0);
        }
        if negative {
            remarks.push(
                "no standard error where the variance of two-way clusters is negative".to_owned(),
            );
        }
        if zero {
            remarks.push("zero variance: no test and no interval".to_owned());
        }
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}
