//! Lin's regression adjustment with heteroskedasticity-consistent standard errors.

use crate::inference::Inference;
use std::collections::BTreeMap;

use super::effect::Effect;
use super::infer::Difference;
use super::lin::Spread;
use super::lin_passes::check as check_robust;
use super::ttest::welch;
use crate::linear::{INTERCEPT, LinearOptions, Vcov, contrast, ols};
use crate::summary::moments::INDICATOR;
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
    let method = format!("lin {}{suffix}", vcov.name());
    check(t, c, vcov)?;
    // Outcome and covariates, in this order.
    let (of_t, of_c) = (t.moments_of_numbers(), c.moments_of_numbers());
    let mut effect = Effect::of_arms(&of_t, &of_c, inference, &method)?;
    // Rows that are not finite are in no moments.
    (effect.n_treatment, effect.n_control) = (Some(t.n()), Some(c.n()));
    (effect.rows_treatment, effect.rows_control) = (t.n(), c.n());
    if !effect.set_means(&of_t, &of_c) {
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
        ..LinearOptions::default()
    };
    let names: Vec<String> = t.columns().regressors().iter().map(|r| r.name.clone()).collect();
    let rows = |i: usize| of_t.sum(1 + i).to_f64() + of_c.sum(1 + i).to_f64();
    let indicators = || names.iter().enumerate().filter(|(_, name)| name.ends_with(INDICATOR));
    let missing = indicators().filter(|(i, _)| rows(*i) > 0.0);
    effect.remark_missing(missing.map(|(i, name)| (name.clone(), rows(i))));
    // The indicator of a covariate that is missing nowhere says nothing.
    let idle = indicators().filter(|(i, _)| rows(*i) <= 0.0).map(|(_, name)| name.clone());
    let idle: Vec<String> = idle.collect();
    options.exclude.clone_from(&idle);
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
    let is_kept = |name: &String| !options.exclude.contains(name);
    let kept: Vec<usize> = (1..=names.len()).filter(|&i| is_kept(&names[i - 1])).collect();
    let left_out = names.iter().filter(|name| !is_kept(name) && !idle.contains(name));
    effect.remark_left_out(left_out.cloned(), kept.is_empty());

    let total = t.n() as f64 + c.n() as f64;
    let mean = |i: usize| {
        let mut sum = of_t.sum(i).clone();
        sum.merge(of_c.sum(i));
        sum.to_f64() / total
    };
    let mut at_mean: BTreeMap<String, f64> =
        kept.iter().map(|&i| (names[i - 1].clone(), mean(i))).collect();
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
        Spread::new((&of_t, &of_c), &kept).add_to(&mut difference, &betas[0], &betas[1]);
    }
    effect.infer(inference, &difference);
    effect.set_variance_reduction(&difference, &welch(&of_t, &of_c, m_t - m_c));
    Ok(effect)
}

fn check(t: &Gram, c: &Gram, vcov: Vcov) -> Result<()> {
    check_robust(vcov)?;
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
