//! Lin's regression adjustment with heteroskedasticity-consistent standard errors by two passes over the units: the first
//! for the moments, which the regressions are made of, the second for the squares of the units' influences.

use super::effect::Effect;
use super::infer::Difference;
use super::lin::{Fit, Regressions, among};
use super::ttest::welch;
use crate::exact::ExactSum;
use crate::inference::Inference;
use crate::linear::Vcov;
use crate::summary::Moments;
use crate::{Error, Result};

/// A unit whose leverage is this near to 1 determines a coefficient alone.
const FULL_LEVERAGE: f64 = 1e-12;

/// What a unit of an arm adds to the variance of its adjusted mean.
///
/// The mean of an arm at the common mean `X̄` of the covariates is `Σ a_i y_i` with `a_i = 1/n + (X̄ − x̄)'M⁻¹(x_i − x̄)`, and its
/// variance `Σ a_i² e_i²/(1 − h_i)^k` with the residual `e_i`, the leverage `h_i = 1/n + (x_i − x̄)'M⁻¹(x_i − x̄)` and `k = 0`
/// for HC0 and HC1, 1 for HC2, 2 for HC3.
#[derive(Debug, Clone)]
pub struct Influence {
    /// Covariates by their place, and whether it is the indicator that they are missing.
    columns: Vec<(usize, bool)>,
    n: f64,
    mean: f64,
    means: Vec<f64>,
    coefficients: Vec<f64>,
    /// `M⁻¹(X̄ − x̄)`.
    direction: Vec<f64>,
    /// `M⁻¹`, where leverages are needed.
    inverse: Vec<Vec<f64>>,
    /// `k`.
    power: i32,
}

/// The sum of the squares of the influences of units. It is exact, so that it does not depend on the order of units.
#[derive(Debug, Clone, Default)]
pub struct Squares {
    sum: ExactSum,
    /// Units that determine a coefficient alone.
    alone: u64,
}

impl Squares {
    /// Adds those of other units.
    pub fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.alone += other.alone;
    }
}

impl Influence {
    fn new(arm: &Moments, kept: &[usize], fit: &Fit, vcov: Vcov) -> Self {
        let covariates = arm.columns().len();
        let indicated = arm.indicated();
        let place = |&column: &usize| match column < covariates {
            true => (column - 1, false),
            false => (indicated[column - covariates], true),
        };
        let power = match vcov {
            Vcov::Hc2 => 1,
            Vcov::Hc3 => 2,
            _ => 0,
        };
        let to_mean: Vec<f64> = fit.from_mean.iter().map(|d| -d).collect();
        Self {
            columns: kept.iter().map(place).collect(),
            n: arm.n() as f64,
            mean: arm.mean(0),
            means: kept.iter().map(|&column| arm.mean(column)).collect(),
            coefficients: fit.coefficients.clone(),
            direction: fit.factor.solve(&to_mean),
            inverse: if power > 0 { fit.factor.inverse() } else { Vec::new() },
            power,
        }
    }

    /// Adds a unit of the arm, with its outcome and its covariates, of which some may be missing.
    pub fn add(&self, y: f64, covariates: &[Option<f64>], to: &mut Squares) {
        let apart = |place: usize| {
            let (covariate, is_indicator) = self.columns[place];
            let value = match (covariates[covariate], is_indicator) {
                (Some(value), false) => value,
                (missing, true) => f64::from(u8::from(missing.is_none())),
                (None, false) => 0.0,
            };
            value - self.means[place]
        };
        let (mut weight, mut residual) = (1.0 / self.n, y - self.mean);
        for place in 0..self.columns.len() {
            let apart = apart(place);
            weight += self.direction[place] * apart;
            residual -= self.coefficients[place] * apart;
        }
        let mut left = 1.0;
        if self.power > 0 {
            left -= 1.0 / self.n;
            for (i, row) in self.inverse.iter().enumerate() {
                let product: f64 = row.iter().enumerate().map(|(j, m)| m * apart(j)).sum();
                left -= apart(i) * product;
            }
            if left < FULL_LEVERAGE {
                to.alone += 1;
                return;
            }
        }
        let influence = weight * residual;
        to.sum.add(influence * influence / left.powi(self.power));
    }
}

/// What the second pass adds up over the units of treatment and of control, for [`lin_of_passes`]; `others` are the units of
/// other arms, as in [`lin_among`](super::lin_among). Nothing where there is no
/// standard error, whatever it finds.
///
/// # Errors
/// As [`lin_of_passes`].
pub fn lin_influences(
    (t, c, others): (&Moments, &Moments, Option<&Moments>),
    vcov: Vcov,
) -> Result<Option<[Influence; 2]>> {
    check(vcov)?;
    let fitted = Regressions::of((t, c, others), &Inference::default(), "")?;
    let Ok(fitted) = fitted else { return Ok(None) };
    let Regressions { t, c, kept, fit_t, fit_c, estimate, .. } = *fitted;
    let influence = |arm: &Moments, fit: &Fit| Influence::new(arm, &kept.columns, fit, vcov);
    Ok(estimate.is_finite().then(|| [influence(&t, &fit_t), influence(&c, &fit_c)]))
}

/// Lin's adjusted difference of means, as [`lin`](super::lin), with heteroskedasticity-consistent standard errors from two
/// passes over the units: `squares` are those of [`lin_influences`] over the units of treatment and of control.
///
/// Formulas are those of [`lin_robust`](super::lin_robust), which needs one pass and the distinct rows; this takes any number
/// of these. Both give the same numbers but for rounding.
///
/// Without `squares` there is an estimate and no standard error.
///
/// # Errors
/// As [`lin`](super::lin), and [`Error::Invalid`] for another covariance than HC0 to HC3.
pub fn lin_of_passes(
    (t, c, others): (&Moments, &Moments, Option<&Moments>),
    squares: Option<&[Squares; 2]>,
    inference: &Inference,
    vcov: Vcov,
    superpopulation: bool,
) -> Result<Effect> {
    check(vcov)?;
    let suffix = if superpopulation { " superpopulation" } else { "" };
    let method = format!("lin {}{suffix}{} in two passes", vcov.name(), among(others));
    let fitted = Regressions::of((t, c, others), inference, &method)?;
    let Regressions { mut effect, t, c, kept, fit_t, fit_c, estimate, control, spread } =
        match fitted {
            Ok(fitted) => *fitted,
            Err(effect) => return Ok(effect),
        };
    if !estimate.is_finite() {
        effect.set_not_finite();
        return Ok(effect);
    }
    let Some(squares) = squares else {
        effect.set_estimate(estimate, control);
        effect.remark("no standard error: it takes a second pass over the units");
        return Ok(effect);
    };
    if squares.iter().any(|squares| squares.alone > 0) {
        effect.set_estimate(estimate, control);
        effect.remark(format!(
            "no standard errors: {} is not defined where a row determines a coefficient alone (its leverage is 1)",
            vcov.name()
        ));
        return Ok(effect);
    }
    let total = t.n() as f64 + c.n() as f64;
    let df = total - 2.0 * (kept.columns.len() as f64 + 1.0);
    let scale = if vcov == Vcov::Hc1 { total / df } else { 1.0 };
    // Residuals that are nothing but rounding are nothing.
    let variance = |squares: &Squares, fit: &Fit| match fit.variance == 0.0 {
        true => 0.0,
        false => squares.sum.to_f64() * scale,
    };
    let [of_t, of_c] = squares;
    let (v_t, v_c) = (variance(of_t, &fit_t), variance(of_c, &fit_c));
    let mut difference = Difference::independent(estimate, control, v_t, v_c, df);
    if superpopulation {
        spread.add_to(&mut difference, &fit_t.coefficients, &fit_c.coefficients);
    }
    effect.infer(inference, &difference);
    effect.set_variance_reduction(&difference, &welch(&t, &c, estimate));
    Ok(effect)
}

/// Refuses a covariance that is not of rows.
pub(super) fn check(vcov: Vcov) -> Result<()> {
    match vcov {
        Vcov::Hc0 | Vcov::Hc1 | Vcov::Hc2 | Vcov::Hc3 => Ok(()),
        other => Err(Error::Invalid(format!("expected HC0 to HC3, found {}", other.name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::lin_robust;
    use crate::summary::{
        Gram, GramColumns, GramRows, GramTable, MomentsTable, Regressor, RegressorKind, Rows, Table,
    };

    /// An outcome, and a covariate that some units lack.
    type Unit = (f64, Option<f64>);

    fn units(n: u32, shift: f64) -> Vec<Unit> {
        let unit = |i: u32| {
            let x = f64::from(i * i % 17) * 1e3;
            let noise = f64::from(i * 5 % 13) * (1.0 + x / 1e4);
            (1e6 + shift + 2.0 * x + noise, (i % 7 != 3).then_some(x))
        };
        (0..n).map(unit).collect()
    }

    fn moments(units: &[Unit]) -> Moments {
        let names = ["y", "x"].map(str::to_owned);
        let columns = crate::summary::Columns::new(names, 1).expect("valid columns");
        let mut table = MomentsTable::new(columns);
        table.resize(1);
        let y: Vec<f64> = units.iter().map(|unit| unit.0).collect();
        let x: Vec<f64> = units.iter().map(|unit| unit.1.unwrap_or_default()).collect();
        let missing: Vec<bool> = units.iter().map(|unit| unit.1.is_none()).collect();
        table.update(Rows {
            slots: &vec![0; units.len()],
            columns: &[&y, &x],
            missing: &[None, Some(&missing)],
            ..Rows::default()
        });
        table.get(0)
    }

    fn gram(units: &[Unit]) -> Gram {
        let names = ["x".to_owned(), format!("x{}", crate::summary::moments::INDICATOR)];
        let numbers = names.map(|name| Regressor { name, kind: RegressorKind::Number });
        let columns = GramColumns::new(["y".to_owned()], numbers, false, 0).expect("valid columns");
        let mut table = GramTable::new(columns, 1000).expect("valid rows");
        table.resize(1);
        let column = |of: fn(&Unit) -> f64| units.iter().map(of).collect::<Vec<f64>>();
        let (x, missing) = (
            column(|unit| unit.1.unwrap_or_default()),
            column(|unit| f64::from(u8::from(unit.1.is_none()))),
        );
        let rows = GramRows {
            slots: &vec![0; units.len()],
            outcomes: &[&column(|unit| unit.0)],
            numbers: &[&x, &missing],
            factors: &[],
            weights: None,
            clusters: &[],
        };
        table.update(rows).expect("few cells");
        table.get(0)
    }

    fn two_passes(t: &[Unit], c: &[Unit], vcov: Vcov, superpopulation: bool) -> Effect {
        let of = [moments(t), moments(c)];
        let influences = lin_influences((&of[0], &of[1], None), vcov).expect("valid summaries");
        let mut squares = [Squares::default(), Squares::default()];
        for (influence, (units, squares)) in
            influences.expect("a regression").iter().zip([t, c].into_iter().zip(&mut squares))
        {
            let (first, second) = units.split_at(units.len() / 3);
            // In another order, and in parts.
            let mut part = Squares::default();
            first.iter().rev().for_each(|(y, x)| influence.add(*y, &[*x], &mut part));
            second.iter().for_each(|(y, x)| influence.add(*y, &[*x], squares));
            squares.merge(&part);
        }
        let inference = Inference::default();
        let pair = (&of[0], &of[1], None);
        lin_of_passes(pair, Some(&squares), &inference, vcov, superpopulation).expect("an effect")
    }

    #[test]
    fn two_passes_give_what_the_distinct_rows_give() {
        let (t, c) = (units(90, 30.0), units(143, 0.0));
        for vcov in [Vcov::Hc0, Vcov::Hc1, Vcov::Hc2, Vcov::Hc3] {
            for superpopulation in [false, true] {
                let found = two_passes(&t, &c, vcov, superpopulation);
                let (t, c) = (gram(&t), gram(&c));
                let expected = lin_robust(&t, &c, &Inference::default(), vcov, superpopulation);
                let expected = expected.expect("an effect");
                let numbers = |e: &Effect| {
                    [e.estimate, e.std_error, e.df, e.p_value, e.relative_ci_upper]
                        .map(|x| x.expect("defined"))
                };
                for (a, b) in numbers(&found).into_iter().zip(numbers(&expected)) {
                    assert!((a / b - 1.0).abs() < 1e-10, "{vcov:?}: {found:?} {expected:?}");
                }
                assert_eq!(found.note, expected.note);
                assert_eq!(found.method, format!("{} in two passes", expected.method));
            }
        }
    }

    #[test]
    fn a_unit_that_determines_a_coefficient_alone_has_no_hc2() {
        let mut t = units(40, 30.0);
        t.iter_mut().for_each(|unit| unit.1 = Some(unit.1.unwrap_or(500.0)));
        t[8].1 = None;
        let c = units(40, 0.0);
        let effect = two_passes(&t, &c, Vcov::Hc2, false);
        assert!(effect.estimate.is_some() && effect.std_error.is_none());
        assert!(effect.note.expect("a note").contains("its leverage is 1"));
        assert!(two_passes(&t, &c, Vcov::Hc0, false).std_error.is_some());
    }
}
