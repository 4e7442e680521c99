//! Lin's regression adjustment: a regression of its own in each arm.

use super::covariates::{Kept, residual_variance};
use super::dyadic::{comoment, mean_difference};
use super::effect::Effect;
use super::infer::{Difference, Variance};
use super::ttest::welch;
use crate::inference::Inference;
use crate::linalg::Factor;
use crate::summary::{Moments, Summary};
use crate::{Error, Result};

/// The variance of Lin's estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinVcov {
    /// The sum of the variances of the two regressions: robust to unequal variances of the arms.
    #[default]
    ByArm,
    /// That of the one interacted regression with one residual variance.
    Classical,
}

/// What is asked of Lin's estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinOptions {
    /// The variance of the regressions.
    pub vcov: LinVcov,
    /// Whether the mean `X̄` of the covariates varies as well: the units are a sample of those that the effect is of.
    pub superpopulation: bool,
}

impl LinOptions {
    fn method(self) -> String {
        let vcov = match self.vcov {
            LinVcov::ByArm => "lin by arm",
            LinVcov::Classical => "lin classical",
        };
        format!("{vcov}{}", if self.superpopulation { " superpopulation" } else { "" })
    }
}

/// The difference of means, adjusted by a regression on the covariates in each arm; every row is a unit.
///
/// Formula: the coefficient of the arm `T` in the regression of `y` on `1, T, x − X̄, T(x − X̄)`, with the mean `X̄` over
/// both arms. The regressions of the arms are separate: `τ̂ = m_t − m_c` with `m_a = ȳ_a − β_a'(x̄_a − X̄)`, and
/// `Var(m_a) = s²_a (1 + n_a d'M_a⁻¹d)/n_a` with `d = x̄_a − X̄`, the sums of squares and products `M_a` of the covariates
/// within the arm and the residual variance `s²_a` with divisor `n_a − k − 1`.
/// * by arm: Welch and Satterthwaite's degrees of freedom from `n_a − k − 1`;
/// * classical: one `s²` for both arms with divisor and degrees of freedom `N − 2k − 2`.
///
/// Residual sums of squares are exact for the given coefficients. `X̄` is taken as fixed (the variance is that of the
/// effect in these units), unless `superpopulation` adds `(β_t − β_c)'S(β_t − β_c)/N` with the covariance `S` of the
/// covariates over all `N` units: then it is that of the effect in the units that these are a sample of. `relative` is over `m_c`; `mean_*` are not adjusted; `variance_reduction` compares with
/// Welch's test of the same rows.
///
/// A covariate that is missing in some rows comes with an indicator column of its own (see [`Moments`]). Columns whose
/// coefficient cannot be estimated in both arms, because they are constant or depend on those before them in one, are
/// left out of both, and `note` names them.
///
/// Assumptions: rows are independent units of randomisation; covariates are not affected by the treatment. The linear
/// model need not be true.
///
/// Small samples: without rows in an arm there is no estimate; unless each arm has two units more than covariates, or
/// with no variance left in both, there is no test and no interval, and `note` says why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns, [`Error::Invalid`](crate::Error::Invalid)
/// for more than one outcome, no covariate, or a confidence outside of (0, 1).
///
/// # References
/// Lin (2013), Agnostic notes on regression adjustments to experimental data: reexamining Freedman's critique, Annals of
/// Applied Statistics 7(1), 295–318, doi:10.1214/12-AOAS583.
pub fn lin(
    t: &Moments,
    c: &Moments,
    inference: &Inference,
    options: &LinOptions,
) -> Result<Effect> {
    lin_among(t, c, None, inference, options)
}

/// The same at the mean `X̄` of the covariates over all arms of an experiment, of which `others` are the units that are in
/// neither of the two: the regression of `y` on all arms, the covariates centred at `X̄`, and their products. The effects of
/// several treatments are then of the same units, all of the experiment's, and the difference of two of them is the effect of
/// one against the other. The superpopulation term is `(β_t − β_c)'S(β_t − β_c)/N` with the covariance `S` and the number `N`
/// of all units.
///
/// # Errors
/// As [`lin`], also for other columns of `others`.
pub fn lin_among(
    t: &Moments,
    c: &Moments,
    others: Option<&Moments>,
    inference: &Inference,
    options: &LinOptions,
) -> Result<Effect> {
    let method = options.method() + among(others);
    let fitted = Regressions::of((t, c, others), inference, &method)?;
    let Regressions { mut effect, t, c, kept, fit_t, fit_c, estimate, control, spread } =
        match fitted {
            Ok(fitted) => *fitted,
            Err(effect) => return Ok(effect),
        };
    let parameters = kept.columns.len() as u64 + 1;
    let (df_t, df_c) = ((t.n() - parameters) as f64, (c.n() - parameters) as f64);
    let mut difference = match options.vcov {
        LinVcov::ByArm => {
            let arm = |fit: &Fit, df: f64| Variance {
                value: fit.variance * ((fit.n - 1.0) / df) * fit.leverage / fit.n,
                df,
            };
            Difference::welch(estimate, control, arm(&fit_t, df_t), arm(&fit_c, df_c))
        }
        LinVcov::Classical => {
            let df = df_t + df_c;
            let [sum_t, sum_c] = [&fit_t, &fit_c].map(|fit| fit.variance * (fit.n - 1.0));
            let variance = (sum_t + sum_c) / df;
            let [v_t, v_c] = [&fit_t, &fit_c].map(|fit| variance * fit.leverage / fit.n);
            Difference::independent(estimate, control, v_t, v_c, df)
        }
    };
    if options.superpopulation {
        spread.add_to(&mut difference, &fit_t.coefficients, &fit_c.coefficients);
    }
    effect.infer(inference, &difference);
    effect.set_variance_reduction(&difference, &welch(&t, &c, estimate));
    Ok(effect)
}

/// What a method says where its covariates are centred at their mean over more arms than two.
pub(super) fn among(others: Option<&Moments>) -> &'static str {
    if others.is_some() { " among all arms" } else { "" }
}

/// The regressions of two arms, and the estimate that they make.
pub(super) struct Regressions {
    pub(super) effect: Effect,
    pub(super) t: Moments,
    pub(super) c: Moments,
    pub(super) kept: Kept,
    pub(super) fit_t: Fit,
    pub(super) fit_c: Fit,
    pub(super) estimate: f64,
    pub(super) control: f64,
    pub(super) spread: Spread,
}

impl Regressions {
    /// Those of two arms that have units enough for a standard error; else the effect, as far as it is known. The third
    /// summary is of the units of other arms, over whom the covariates are averaged as well.
    pub(super) fn of(
        (t, c, others): (&Moments, &Moments, Option<&Moments>),
        inference: &Inference,
        method: &str,
    ) -> Result<std::result::Result<Box<Self>, Effect>> {
        let (mut effect, mut t, mut c) = Effect::adjusted((t, c), 1, inference, method)?;
        if !effect.set_means(&t, &c) {
            return Ok(Err(effect));
        }
        let mut everybody = None;
        if let Some(others) = others {
            let mut all;
            (t, all) = Moments::aligned(&t, others)?;
            (c, _) = Moments::aligned(&c, &all)?;
            all.merge(&t)?;
            all.merge(&c)?;
            (all, _) = Moments::aligned(&all, &t)?;
            everybody = Some(all);
        }
        let (mut factor_t, mut factor_c) = (Factor::default(), Factor::default());
        let kept = Kept::choose(1..t.width(), |column, kept| {
            let next = |factor: &Factor, arm: &Moments| {
                let row: Vec<f64> =
                    kept.iter().chain([&column]).map(|&k| comoment(arm, column, k)).collect();
                factor.next_row(&row)
            };
            let rows = next(&factor_t, &t).zip(next(&factor_c, &c));
            rows.map(|(row_t, row_c)| {
                factor_t.push(row_t);
                factor_c.push(row_c);
            })
            .is_some()
        });
        effect.remark_covariates(&t, &c, &kept);

        // The mean of an arm less that of other units, times a share.
        let apart = |arm: &Moments, other: &Moments, share: f64| -> Vec<f64> {
            let one = |&column: &usize| share * mean_difference(arm, other, &[(column, 1.0)]);
            kept.columns.iter().map(one).collect()
        };
        let total = t.n() as f64 + c.n() as f64;
        let (from_mean_t, from_mean_c, spread) = match &everybody {
            Some(all) => (apart(&t, all, 1.0), apart(&c, all, 1.0), Spread::of(all, &kept.columns)),
            // x̄_t − X̄ is n_c/N of x̄_t − x̄_c, and x̄_c − X̄ is −n_t/N of it.
            None => (
                apart(&t, &c, c.n() as f64 / total),
                apart(&t, &c, -(t.n() as f64) / total),
                Spread::new((&t, &c), &kept.columns),
            ),
        };
        let fit_t = Fit::new(&t, &kept, factor_t, from_mean_t);
        let fit_c = Fit::new(&c, &kept, factor_c, from_mean_c);
        let estimate = mean_difference(&t, &c, &[(0, 1.0)]) - (fit_t.adjustment - fit_c.adjustment);
        let control = c.mean(0) - fit_c.adjustment;
        if effect.lacks_units((t.n(), c.n()), kept.columns.len() as u64 + 2) {
            effect.set_estimate(estimate, control);
            return Ok(Err(effect));
        }
        Ok(Ok(Box::new(Self { effect, t, c, kept, fit_t, fit_c, estimate, control, spread })))
    }
}

/// The difference of means, adjusted by a prediction of the outcome that a model makes from what was known before the
/// experiment (MLRATE); every row is a unit.
///
/// Formula: [`lin`] with the prediction as its one covariate and the variance over a superpopulation. The coefficient of the
/// prediction is estimated, so that a poor model costs precision and not validity.
///
/// Assumptions: those of [`lin`]; the prediction of a unit comes from a model that was not fitted to that unit's outcome:
/// cross-fitted over folds of units (see [`fold_of`](crate::units::fold_of)), or fitted to other data, such as the time
/// before the experiment (CUPAC). A model that has seen the outcome gives intervals that are too short.
///
/// Small samples: as [`lin`].
///
/// # Errors
/// As [`lin`], and [`Error::Invalid`](crate::Error::Invalid) unless there is one covariate.
///
/// # References
/// Guo, Coey, Konutgan, Li, Schoener and Goldman (2021), Machine learning for variance reduction in online experiments,
/// NeurIPS 34, arXiv:2106.07263. Tang, Huang, Kastelman and Bauman (2020), Control using predictions as covariates in
/// switchback experiments (CUPAC), DoorDash.
pub fn mlrate(t: &Moments, c: &Moments, inference: &Inference) -> Result<Effect> {
    let covariates = t.columns().covariates();
    if covariates != 1 {
        return Err(Error::Invalid(format!("expected one prediction, found {covariates}")));
    }
    let options = LinOptions { superpopulation: true, ..LinOptions::default() };
    Ok(Effect { method: "mlrate".into(), ..lin(t, c, inference, &options)? })
}

/// The covariance of the covariates over all units of both arms, over their number: how far `X̄` varies from sample to
/// sample.
pub(super) struct Spread(Vec<Vec<f64>>);

impl Spread {
    /// Of some columns of both arms.
    pub(super) fn new((t, c): (&Moments, &Moments), columns: &[usize]) -> Self {
        let (n_t, n_c) = (t.n() as f64, c.n() as f64);
        let n = n_t + n_c;
        let apart = |i: usize| mean_difference(t, c, &[(i, 1.0)]);
        let within = |i: usize, j: usize| comoment(t, i, j) + comoment(c, i, j);
        let covariance = |i: usize, j: usize| {
            let between = n_t * n_c / n * apart(i) * apart(j);
            (within(i, j) + between) / (n - 1.0) / n
        };
        let row = |&i: &usize| columns.iter().map(|&j| covariance(i, j)).collect();
        Self(columns.iter().map(row).collect())
    }

    /// Of some columns of one summary of all units.
    fn of(all: &Moments, columns: &[usize]) -> Self {
        let n = all.n() as f64;
        let row = |&i: &usize| columns.iter().map(|&j| all.covariance(i, j) / n).collect();
        Self(columns.iter().map(row).collect())
    }

    /// Adds what the variation of `X̄` adds to the variances, given the coefficients of the arms.
    pub(super) fn add_to(&self, difference: &mut Difference, t: &[f64], c: &[f64]) {
        let apart: Vec<f64> = t.iter().zip(c).map(|(t, c)| t - c).collect();
        let (of_effect, of_control) = (self.form(&apart, &apart), self.form(c, c));
        difference.add_common(of_effect, of_control, self.form(&apart, c));
    }

    /// `a'S b/N`.
    fn form(&self, a: &[f64], b: &[f64]) -> f64 {
        let row =
            |(a, row): (&f64, &Vec<f64>)| a * row.iter().zip(b).map(|(s, b)| s * b).sum::<f64>();
        a.iter().zip(&self.0).map(row).sum()
    }
}

/// The regression of one arm.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    n: f64,
    /// The sums of squares and products of the covariates.
    pub(super) factor: Factor,
    pub(super) coefficients: Vec<f64>,
    /// `x̄ − X̄`.
    pub(super) from_mean: Vec<f64>,
    /// `β'(x̄ − X̄)`.
    adjustment: f64,
    /// The variance of the residuals, with divisor `n − 1`.
    pub(super) variance: f64,
    /// `1 + n·d'M⁻¹d`.
    leverage: f64,
}

impl Fit {
    fn new(arm: &Moments, kept: &Kept, factor: Factor, from_mean: Vec<f64>) -> Self {
        let n = arm.n() as f64;
        let with_outcome: Vec<f64> =
            kept.columns.iter().map(|&column| comoment(arm, column, 0)).collect();
        let coefficients = factor.solve(&with_outcome);
        let adjustment = coefficients.iter().zip(&from_mean).map(|(b, d)| b * d).sum();
        let variance = residual_variance(arm, &kept.weights(&coefficients));
        let leverage = 1.0 + n * factor.quadratic_form(&from_mean);
        Self { n, factor, coefficients, from_mean, adjustment, variance, leverage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(names: &[&str], columns: &[&[f64]]) -> Moments {
        Moments::of(names, 1, columns).expect("valid columns")
    }

    #[test]
    fn with_a_stratum_as_covariate_it_is_post_stratification() {
        let (y_t, s_t) = ([3.0, 5.0, 9.0, 10.0, 14.0], [0.0, 0.0, 1.0, 1.0, 1.0]);
        let (y_c, s_c) = ([1.0, 2.0, 6.0, 4.0, 8.0, 5.0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        let (t, c) = (arm(&["y", "s"], &[&y_t, &s_t]), arm(&["y", "s"], &[&y_c, &s_c]));
        let e =
            lin(&t, &c, &Inference::default(), &LinOptions::default()).expect("valid summaries");
        // Strata of 6 and 5 of 11 units: means 4 and 11 in treatment, 3.25 and 6.5 in control.
        let estimate = 6.0 / 11.0 * (4.0 - 3.25) + 5.0 / 11.0 * (11.0 - 6.5);
        assert!((e.estimate.expect("defined") - estimate).abs() < 1e-14);
        // Residual variances (2 + 14)/3 and (14.75 + 4.5)/4, and Σ W²/n over the strata of each arm.
        let shares = [6.0f64 / 11.0, 5.0 / 11.0].map(|w| w * w);
        let v_t = 16.0 / 3.0 * (shares[0] / 2.0 + shares[1] / 3.0);
        let v_c = 19.25 / 4.0 * (shares[0] / 4.0 + shares[1] / 2.0);
        assert!((e.std_error.expect("defined") - (v_t + v_c).sqrt()).abs() < 1e-14);
        let df = (v_t + v_c).powi(2) / (v_t * v_t / 3.0 + v_c * v_c / 4.0);
        assert!((e.df.expect("defined") - df).abs() < 1e-12);
        let relative = estimate / (6.0 / 11.0 * 3.25 + 5.0 / 11.0 * 6.5);
        assert!((e.relative.expect("defined") - relative).abs() < 1e-14);
        let classical = lin(
            &t,
            &c,
            &Inference::default(),
            &LinOptions { vcov: LinVcov::Classical, ..LinOptions::default() },
        );
        let classical = classical.expect("valid summaries");
        let pooled = (16.0 + 19.25) / 7.0 * (v_t / (16.0 / 3.0) + v_c / (19.25 / 4.0));
        assert!((classical.std_error.expect("defined") - pooled.sqrt()).abs() < 1e-14);
        assert_eq!(classical.df, Some(7.0));
    }

    #[test]
    fn among_all_arms_effects_add_up() {
        let of = |n: i32, shift: f64, slope: f64| {
            let x: Vec<f64> = (0..n).map(|i| f64::from(i * i % 17)).collect();
            let y: Vec<f64> =
                x.iter().zip(0..).map(|(x, i)| shift + slope * x + f64::from(i * 5 % 13)).collect();
            arm(&["y", "x"], &[&y, &x])
        };
        let (a, b, c) = (of(60, 3.0, 2.0), of(83, 5.0, 1.0), of(71, 0.0, -1.0));
        let among = |t: &Moments, c: &Moments, others: &Moments| {
            let options = LinOptions { superpopulation: true, ..LinOptions::default() };
            let found = lin_among(t, c, Some(others), &Inference::default(), &options);
            found.expect("valid summaries")
        };
        let estimate = |e: &Effect| e.estimate.expect("defined");
        let (a_c, b_c) = (estimate(&among(&a, &c, &b)), estimate(&among(&b, &c, &a)));
        assert!((a_c - b_c - estimate(&among(&a, &b, &c))).abs() < 1e-12);
        // Without others they are the two arms.
        let nobody = among(&a, &c, &Moments::new(a.columns().clone()));
        let options = LinOptions { superpopulation: true, ..LinOptions::default() };
        let pair = lin(&a, &c, &Inference::default(), &options).expect("valid summaries");
        assert!((estimate(&nobody) - estimate(&pair)).abs() < 1e-12);
        let (all, two) = (nobody.std_error.expect("defined"), pair.std_error.expect("defined"));
        assert!((all / two - 1.0).abs() < 1e-12);
        assert!((a_c - estimate(&pair)).abs() > 1e-3, "other units, another mean");
    }

    #[test]
    fn a_covariate_without_variance_in_one_arm_is_left_out_of_both() {
        let y = [3.0, 5.0, 9.0, 10.0, 14.0];
        let x = [0.0, 1.0, 1.0, 3.0, 2.0];
        let (t, c) = (arm(&["y", "x"], &[&y, &[7.0; 5]]), arm(&["y", "x"], &[&y, &x]));
        let e =
            lin(&t, &c, &Inference::default(), &LinOptions::default()).expect("valid summaries");
        assert!(
            e.note
                .expect("a note")
                .contains("left out, constant or dependent on the covariates before: 'x'")
        );
        assert_eq!((e.estimate, e.variance_reduction), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn each_arm_needs_two_units_more_than_covariates() {
        let inference = Inference::default();
        let three = arm(&["y", "x"], &[&[1.0, 5.0, 2.0], &[1.0, 2.0, 4.0]]);
        let two = arm(&["y", "x"], &[&[1.0, 5.0], &[1.0, 2.0]]);
        let enough =
            lin(&three, &three, &inference, &LinOptions::default()).expect("valid summaries");
        assert_eq!(enough.df, Some(2.0));
        let few = lin(&three, &two, &inference, &LinOptions::default()).expect("valid summaries");
        assert!(few.estimate.is_some() && few.std_error.is_none());
        assert!(few.note.expect("a note").contains("at least 3 in each arm"));
    }
}
