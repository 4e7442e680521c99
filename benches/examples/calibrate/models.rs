//! Regressions of the units of an experiment, and predictions by them.

use gosset_stats::compare::{Squares, lin_influences, lin_of_passes, mlrate};
use gosset_stats::linear::{LinearOptions, Vcov, ols};
use gosset_stats::summary::gram::DEFAULT_MAX_ROWS;
use gosset_stats::summary::{
    Gram, GramColumns, GramRows, GramTable, Moments, Regressor, RegressorKind,
};
use gosset_stats::{Effect, Inference, Summary, units};

use crate::simulate::Random;
use crate::world::Arm;

/// The rows of a regression: an outcome on numbers, by clusters where there are any; so many of them one by one.
fn gram(y: &[f64], numbers: &[&[f64]], clusters: Option<&[u128]>, max_rows: u32) -> Gram {
    let regressor = |i| Regressor { name: format!("x{i}"), kind: RegressorKind::Number };
    let regressors = (0..numbers.len()).map(regressor);
    let columns =
        GramColumns::new(["y".to_owned()], regressors, false, u8::from(clusters.is_some()));
    let columns = columns.expect("valid columns");
    let mut table = GramTable::new(columns, max_rows).expect("a valid number of rows");
    table.resize(1);
    let rows = GramRows {
        slots: &vec![0; y.len()],
        outcomes: &[y],
        numbers,
        factors: &[],
        weights: None,
        clusters: &clusters.into_iter().collect::<Vec<_>>(),
    };
    table.update(rows).expect("rows without factors are one cell at the most");
    table.get(0)
}

/// The outcome on the arm and the covariates.
pub(crate) fn regression(t: &Arm, c: &Arm) -> Gram {
    let both = |of: fn(&Arm, usize) -> &Vec<f64>, i| [&of(t, i)[..], &of(c, i)[..]].concat();
    let arm: Vec<f64> =
        [t, c].iter().flat_map(|arm| vec![f64::from(u8::from(arm.treated)); arm.y.len()]).collect();
    let x: Vec<Vec<f64>> = (0..t.x.len()).map(|i| both(|arm, i| &arm.x[i], i)).collect();
    let numbers: Vec<&[f64]> = [&arm].into_iter().chain(&x).map(|column| &column[..]).collect();
    gram(&both(|arm, _| &arm.y, 0), &numbers, None, DEFAULT_MAX_ROWS)
}

/// The same of 1 to 5 rows of each unit, which differ from the unit by noise of their own: by the unit, and as if they were
/// independent.
pub(crate) fn of_rows(random: &mut Random, t: &Arm, c: &Arm) -> [Gram; 2] {
    let (mut y, mut clusters) = (Vec::new(), Vec::new());
    let mut numbers = vec![Vec::new(); 1 + t.x.len()];
    for arm in [t, c] {
        for (u, &of_unit) in arm.y.iter().enumerate() {
            let cluster = units::integer(2 * u as i128 + i128::from(arm.treated));
            for _ in 0..1 + (5.0 * random.uniform()) as usize {
                y.push(of_unit + random.normal());
                clusters.push(cluster);
                numbers[0].push(f64::from(u8::from(arm.treated)));
                numbers[1..].iter_mut().zip(&arm.x).for_each(|(column, x)| column.push(x[u]));
            }
        }
    }
    let numbers: Vec<&[f64]> = numbers.iter().map(Vec::as_slice).collect();
    [gram(&y, &numbers, Some(&clusters), DEFAULT_MAX_ROWS), gram(&y, &numbers, None, 1)]
}

/// The effect of the arm, the first of the regressors.
pub(crate) fn of_arm(gram: &Gram, vcov: Vcov) -> Option<Effect> {
    let fit = ols(gram, &LinearOptions { vcov: Some(vcov), ..LinearOptions::default() }).ok()?;
    let arm = fit.coefficients.get(1)?.estimate;
    let (estimate, std_error, p_value) = (arm.estimate, arm.std_error, arm.p_value);
    let (ci_lower, ci_upper) = (arm.ci_lower, arm.ci_upper);
    Some(Effect { estimate, std_error, p_value, ci_lower, ci_upper, ..Effect::default() })
}

/// The effects with predictions by a linear model of the features: made for each half of the units by the model of the other,
/// and by the model of all units, which has seen the outcomes that it predicts.
pub(crate) fn predicted(t: &Arm, c: &Arm, inference: &Inference) -> [Option<Effect>; 2] {
    let arms = [t, c].map(|arm| (arm, arm.features()));
    let halves = [0, 1].map(|half| {
        let part =
            |column: &[f64]| -> Vec<f64> { column.iter().skip(half).step_by(2).copied().collect() };
        let of = |arm: &(&Arm, Vec<Vec<f64>>)| {
            let x: Vec<Vec<f64>> = arm.1.iter().map(|x| part(x)).collect();
            gram(&part(&arm.0.y), &x.iter().map(Vec::as_slice).collect::<Vec<_>>(), None, 1)
        };
        let [mut both, other] = [of(&arms[0]), of(&arms[1])];
        both.merge(&other).expect("the same columns");
        both
    });
    let [one, other] = &halves;
    let mut all = one.clone();
    all.merge(other).expect("the same columns");
    let weights = |gram: &Gram| -> Option<Vec<f64>> {
        let options = LinearOptions { vcov: Some(Vcov::Classical), ..LinearOptions::default() };
        let fit = ols(gram, &options).ok()?;
        // What depends on others has no weight; a model without any predicts nothing.
        fit.r_squared?;
        Some(fit.coefficients.iter().map(|c| c.estimate.estimate.unwrap_or(0.0)).collect())
    };
    let predictions = |(arm, x): &(&Arm, Vec<Vec<f64>>), models: [&Vec<f64>; 2]| -> Vec<f64> {
        let predict = |u: usize| {
            let weights = models[u % 2];
            weights[0] + weights[1..].iter().zip(x).map(|(w, x)| w * x[u]).sum::<f64>()
        };
        (0..arm.y.len()).map(predict).collect()
    };
    let effect = |models: [&Gram; 2]| {
        let [even, odd] = models.map(weights);
        let (even, odd) = (even?, odd?);
        let [t, c] = &arms;
        let of = |arm| [predictions(arm, [&even, &odd])];
        mlrate(&t.0.moments(&of(t)), &c.0.moments(&of(c)), inference).ok()
    };
    [effect([other, one]), effect([&all, &all])]
}

/// Lin's effect over a superpopulation with a robust standard error, by two passes over the units.
pub(crate) fn lin_robust(
    (t, of_t): (&Arm, &Moments),
    (c, of_c): (&Arm, &Moments),
    inference: &Inference,
    vcov: Vcov,
) -> Option<Effect> {
    let arms = (of_t, of_c, None);
    let influences = lin_influences(arms, vcov).ok()?;
    let squares = influences.map(|of| {
        [(t, &of[0]), (c, &of[1])].map(|(arm, influence)| {
            let mut squares = Squares::default();
            let mut covariates = vec![None; arm.x.len()];
            for (u, &y) in arm.y.iter().enumerate() {
                covariates.iter_mut().zip(&arm.x).for_each(|(value, x)| *value = Some(x[u]));
                influence.add(y, &covariates, &mut squares);
            }
            squares
        })
    });
    lin_of_passes(arms, squares.as_ref(), inference, vcov, true).ok()
}
