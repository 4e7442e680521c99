//! Lin's regression adjustment with heteroskedasticity-consistent standard errors.

use std::collections::BTreeMap;

use super::dyadic::Dyadic;
use super::effect::{Effect, Inference};
use super::infer::Difference;
use super::lin::Spread;
use super::ratio::Ratio;
use crate::exact::{ExactSum, Sums};
use crate::linear::{INTERCEPT, LinearOptions, Vcov, contrast, ols};
use crate::summary::moments::{INDICATOR, product_index};
use crate::summary::{Gram, RegressorKind};
use crate::{Error, Result};

/// Lin's adjusted difference of means, as [`lin`](super::lin), with heteroskedasticity-consistent standard errors; every row is
/// a unit.
///
/// Formula: the coefficient of the arm `T` in the regression of `y` on `1, T, x − X̄, T(x − X̄)` and its variance by `vcov`:
/// HC0 is `Σ_a l_a'(Z_a'Z_a)⁻¹(Σ z z' e²)(Z_a'Z_a)⁻¹l_a` with `Z = (1, x)` and `l = (1, X̄)`, HC1 that times `N/(N − 2k − 2)`,
/// HC2 and HC3 with `e²` over `1 − h` and its square, the leverages `h` of each arm's own regression. Student's law with `N −
/// 2k − 2` degrees of freedom. The superpopulation term, the relative effect and `variance_reduction` are as in
/// [`lin`](super::lin).
///
/// It needs the distinct rows of covariates, or the summary of units in two passes: where a summary has merged them there is an
/// estimate and no standard error, and `note` says so.
///
/// Covariates that are constant or depend on those before them in one arm are left out of both, and `note` names them.
///
/// Assumptions and small samples: as [`lin`](super::lin).
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns, [`Error::Invalid`] for another covariance than HC0 to HC3, more than
/// one outcome, no covariate, covariates that are no numbers, weights, clusters, or a confidence outside of (0, 1).
///
/// # References
/// Lin (2013), as in [`lin`](super::lin). MacKinnon and White (1985), Some heteroskedasticity-consistent covariance matrix
/// estimators with improved finite sample properties, Journal of Econometrics 29(3), 305–325,
/// doi:10.1016/0304-4076(85)90158-7.
pub fn lin_robust(
    t: &Gram,
    c: &Gram,
    inference: &Inference,
    vcov: Vcov,
    superpopulation: bool,
) -> Result<Effect> {
    let suffix = if superpopulation { " superpopulation" } else { "" };
    let mut effect = Effect::new(inference, &format!("lin {}{suffix}", vcov.name()))?;
    check(t, c, vcov)?;
    (effect.n_treatment, effect.n_control) = (Some(t.n()), Some(c.n()));
    (effect.rows_treatment, effect.rows_control) = (t.n(), c.n());
    effect.n_dropped = t.dropped() + c.dropped();
    let (of_t, of_c) = (Totals::of(t), Totals::of(c));
    let k = t.columns().regressors().len();
    if !effect.set_ratios(&of_t.mean(k), &of_c.mean(k)) {
        return Ok(effect);
    }
    if t.not_finite() + c.not_finite() > 0 {
        effect.set_not_finite();
        return Ok(effect);
    }
    let used = if vcov == Vcov::Hc1 { Vcov::Hc0 } else { vcov };
    let mut options = LinearOptions {
        vcov: Some(used),
        confidence: inference.confidence,
        exclude: effect.remark_missing(t, (&of_t, &of_c)),
        ..LinearOptions::default()
    };
    let idle = options.exclude.clone();
    let fits = loop {
        let fits = [ols(t, &options)?, ols(c, &options)?];
        let dropped = fits.iter().flat_map(|fit| &fit.coefficients);
        let dropped = dropped.filter(|c| c.estimate.estimate.is_none() && c.term != INTERCEPT);
        let dropped: Vec<String> = dropped.map(|c| c.term.clone()).collect();
        if dropped.is_empty() || fits.iter().any(|fit| fit.df_residual.is_none()) {
            break fits;
        }
        options.exclude.extend(dropped);
    };
    let names = t.columns().regressors().iter().map(|regressor| regressor.name.clone());
    let kept: Vec<(usize, String)> =
        names.enumerate().filter(|(_, name)| !options.exclude.contains(name)).collect();
    effect.remark_left_out(t, &kept, &idle);

    let total = t.n() as f64 + c.n() as f64;
    let mean = |i: usize| {
        let mut sum = of_t.column(i).clone();
        sum.merge(of_c.column(i));
        sum.to_f64() / total
    };
    let mut at_mean: BTreeMap<String, f64> =
        kept.iter().map(|(i, name)| (name.clone(), mean(*i))).collect();
    at_mean.insert(INTERCEPT.to_owned(), 1.0);
    let [at_t, at_c] = [contrast(t, &options, &at_mean)?, contrast(c, &options, &at_mean)?];
    let (Some(m_t), Some(m_c)) = (at_t.estimate.estimate, at_c.estimate.estimate) else {
        let why = at_t.note.filter(|_| at_t.estimate.estimate.is_none()).or(at_c.note);
        effect.remark(why.unwrap_or_else(|| "no regression in an arm".into()));
        return Ok(effect);
    };
    let (Some(se_t), Some(se_c)) = (at_t.estimate.std_error, at_c.estimate.std_error) else {
        effect.set_estimate(m_t - m_c, m_c);
        let why = at_t.note.filter(|_| at_t.estimate.std_error.is_none()).or(at_c.note);
        effect.remark(why.unwrap_or_else(|| "no standard error in an arm".into()));
        return Ok(effect);
    };
    let parameters = 2.0 * (kept.len() as f64 + 1.0);
    let df = total - parameters;
    let scale = if vcov == Vcov::Hc1 { total / df } else { 1.0 };
    let (v_t, v_c) = (se_t * se_t * scale, se_c * se_c * scale);
    let mut difference = Difference::independent(m_t - m_c, m_c, v_t, v_c, df);
    if superpopulation {
        let betas = fits.map(|fit| {
            let slopes = fit.coefficients.into_iter().filter(|c| c.term != INTERCEPT);
            slopes.filter_map(|c| c.estimate.estimate).collect::<Vec<f64>>()
        });
        let columns: Vec<usize> = kept.iter().map(|(i, _)| *i).collect();
        let spread = Spread::new(
            (t.n(), c.n()),
            &columns,
            |i| of_t.mean(i).minus(&of_c.mean(i)),
            |i, j| of_t.comoment(i, j) + of_c.comoment(i, j),
        );
        spread.add_to(&mut difference, &betas[0], &betas[1]);
    }
    effect.infer(inference, &difference);
    let plain = |arm: &Totals| arm.comoment(k, k) / (arm.n() as f64 - 1.0) / arm.n() as f64;
    let plain = Difference::independent(m_t - m_c, m_c, plain(&of_t), plain(&of_c), df);
    effect.set_variance_reduction(&difference, &plain);
    Ok(effect)
}

fn check(t: &Gram, c: &Gram, vcov: Vcov) -> Result<()> {
    if !matches!(vcov, Vcov::Hc0 | Vcov::Hc1 | Vcov::Hc2 | Vcov::Hc3) {
        return Err(Error::Invalid(format!("expected HC0 to HC3, found {}", vcov.name())));
    }
    let columns = t.columns();
    if columns != c.columns() {
        return Err(Error::Mismatch(format!(
            "expected two summaries of the same columns, found {columns} for treatment and {} for control",
            c.columns()
        )));
    }
    let numbers = columns.regressors().iter().all(|r| r.kind == RegressorKind::Number);
    if columns.outcomes().len() != 1
        || columns.regressors().is_empty()
        || !numbers
        || columns.weighted()
        || columns.clusters() > 0
    {
        return Err(Error::Invalid(format!(
            "expected one outcome and covariates that are numbers, without weights and clusters; found {columns}"
        )));
    }
    Ok(())
}

/// The sums of the columns of an arm: covariates, then the outcome.
struct Totals {
    sums: Option<Sums>,
    width: usize,
    nothing: ExactSum,
}

impl Totals {
    fn of(arm: &Gram) -> Self {
        let width = arm.columns().regressors().len() + 1;
        Self { sums: arm.by_factors().into_values().next(), width, nothing: ExactSum::new() }
    }

    fn n(&self) -> u64 {
        self.sums.as_ref().map_or(0, |sums| sums.n)
    }

    fn column(&self, i: usize) -> &ExactSum {
        self.sums.as_ref().map_or(&self.nothing, |sums| &sums.sums[i])
    }

    fn mean(&self, i: usize) -> Ratio {
        Ratio::of(self.column(i), &ExactSum::from_integer(self.n().into()))
    }

    /// The sum of products around the means, rounded once.
    fn comoment(&self, i: usize, j: usize) -> f64 {
        let Some(sums) = &self.sums else { return 0.0 };
        let n = Dyadic::count(sums.n);
        let products = &sums.sums[product_index(self.width, i, j)];
        let parts = [&sums.sums[i], &sums.sums[j], products].map(Dyadic::of);
        let [Some(a), Some(b), Some(ab)] = parts else { return f64::NAN };
        n.times(&ab).minus(&a.times(&b)).over(&n)
    }
}

impl Effect {
    /// Says which covariates were missing, and gives the indicators of those that were not.
    fn remark_missing(&mut self, arm: &Gram, (of_t, of_c): (&Totals, &Totals)) -> Vec<String> {
        let (mut missing, mut rows, mut idle) = (Vec::new(), Vec::new(), Vec::new());
        for (i, regressor) in arm.columns().regressors().iter().enumerate() {
            if !regressor.name.ends_with(INDICATOR) {
                continue;
            }
            let count = of_t.column(i).to_f64() + of_c.column(i).to_f64();
            if count > 0.0 {
                missing.push(format!("'{}'", regressor.name));
                rows.push(count.to_string());
            } else {
                idle.push(regressor.name.clone());
            }
        }
        if !missing.is_empty() {
            self.remark(format!(
                "missing covariates are 0 with an indicator: {} in {} rows",
                missing.join(", "),
                rows.join(", ")
            ));
        }
        idle
    }

    fn remark_left_out(&mut self, arm: &Gram, kept: &[(usize, String)], idle: &[String]) {
        let names = arm.columns().regressors().iter().map(|regressor| &regressor.name);
        let left_out: Vec<String> = names
            .filter(|name| !idle.contains(name))
            .filter(|name| !kept.iter().any(|(_, other)| other == *name))
            .map(|name| format!("'{name}'"))
            .collect();
        if !left_out.is_empty() {
            self.remark(format!(
                "left out, constant or dependent on the covariates before: {}",
                left_out.join(", ")
            ));
        }
        if kept.is_empty() {
            self.remark("not adjusted: no covariate is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{LinOptions, lin};
    use crate::summary::{GramColumns, GramRows, GramTable, Moments, Regressor};

    fn columns(shift: f64, n: i32) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let x: Vec<f64> = (0..n).map(|i| f64::from(i * i % 17)).collect();
        let z: Vec<f64> = (0..n).map(|i| f64::from(i * 7 % 11)).collect();
        let y = x.iter().zip(&z).enumerate();
        let y = y.map(|(i, (x, z))| shift + 2.0 * x - z + f64::from(i as i32 * 5 % 13)).collect();
        (y, x, z)
    }

    fn gram(y: &[f64], x: &[f64], z: &[f64], max_rows: u32) -> Gram {
        let numbers =
            ["x", "z"].map(|name| Regressor { name: name.into(), kind: RegressorKind::Number });
        let columns = GramColumns::new(["y".to_owned()], numbers, false, 0).expect("valid columns");
        let mut table = GramTable::new(columns, max_rows).expect("valid rows");
        table.resize(1);
        let slots = vec![0; y.len()];
        let rows = GramRows {
            slots: &slots,
            outcomes: &[y],
            numbers: &[x, z],
            factors: &[],
            weights: None,
            clusters: &[],
        };
        table.update(rows).expect("few cells");
        table.get(0)
    }

    #[test]
    fn it_is_the_estimate_of_lin_and_says_why_there_is_no_error() {
        let ((y_t, x_t, z_t), (y_c, x_c, z_c)) = (columns(3.0, 60), columns(0.0, 83));
        let inference = Inference::default();
        let robust = |max_rows, vcov| {
            let arms = [gram(&y_t, &x_t, &z_t, max_rows), gram(&y_c, &x_c, &z_c, max_rows)];
            lin_robust(&arms[0], &arms[1], &inference, vcov, false).expect("valid summaries")
        };
        let moments = |y: &[f64], x: &[f64], z: &[f64]| {
            Moments::of(&["y", "x", "z"], 1, &[y, x, z]).expect("valid columns")
        };
        let plain = lin(
            &moments(&y_t, &x_t, &z_t),
            &moments(&y_c, &x_c, &z_c),
            &inference,
            &LinOptions::default(),
        );
        let plain = plain.expect("valid summaries");
        let hc = [Vcov::Hc0, Vcov::Hc1, Vcov::Hc2, Vcov::Hc3].map(|vcov| robust(1000, vcov));
        for e in &hc {
            let near = |a: Option<f64>, b: Option<f64>| {
                (a.expect("defined") / b.expect("defined") - 1.0).abs() < 1e-12
            };
            assert!(near(e.estimate, plain.estimate) && near(e.relative, plain.relative), "{e:?}");
            assert_eq!((e.df, e.n_treatment), (Some(143.0 - 6.0), Some(60)));
        }
        assert!(hc.windows(2).all(|pair| pair[0].std_error < pair[1].std_error));
        let merged = robust(5, Vcov::Hc2);
        assert_eq!((merged.std_error, merged.p_value), (None, None));
        assert!(merged.estimate.is_some() && merged.note.expect("a reason").contains("max_rows"));
    }

    #[test]
    fn a_covariate_without_variance_in_one_arm_is_left_out_of_both() {
        let ((y_t, x_t, z_t), (y_c, x_c, _)) = (columns(3.0, 40), columns(0.0, 40));
        let constant = vec![1.0; 40];
        let arms = [gram(&y_t, &x_t, &z_t, 1000), gram(&y_c, &x_c, &constant, 1000)];
        let e = lin_robust(&arms[0], &arms[1], &Inference::default(), Vcov::Hc2, true);
        let e = e.expect("valid summaries");
        assert_eq!(e.df, Some(76.0));
        assert!(e.note.expect("a note").contains("'z'"));
        let swapped = lin_robust(&arms[1], &arms[0], &Inference::default(), Vcov::Hc2, true);
        let swapped = swapped.expect("valid summaries").std_error.expect("defined");
        assert!((swapped / e.std_error.expect("defined") - 1.0).abs() < 1e-12);
    }
}
