//! The test of no effect by new assignments of the units.

use super::bootstrap::LEAST_UNITS;
use super::dyadic::Dyadic;
use super::effect::Effect;
use super::infer::check_outcomes;
use super::ratio::Ratio;
use crate::exact::ExactSum;
use crate::inference::{Alternative, Inference};
use crate::summary::{Law, Replicates, Summary};
use crate::{Error, Result};

/// The randomisation (permutation) test of a difference of means per row, with units as clusters of rows.
///
/// Tests that no unit's rows depend on its arm. Formula: in replicate `b` every unit of both arms is assigned anew, to
/// treatment with the probability of the summaries and independently of all others, and `T*_b` is the difference of the
/// means per row between the new arms. With `T` the difference between the real ones,
/// `p = (1 + #{|T*_b| ≥ |T|})/(B + 1)`, one-sided `(1 + #{T*_b ≥ T})/(B + 1)` or its mirror; never 0. `std_error` is the
/// standard deviation of `T*` (under no effect) and `statistic` is `T/std_error`. There is no interval. Differences are
/// formed exactly and rounded once, so that equal ones count as equal.
///
/// Assumptions: units were assigned independently with that probability, or so many to each arm that it makes no
/// difference. Replicates in which an arm is empty are left out, and `note` counts them.
///
/// Small samples: without rows in an arm there is no estimate; with fewer than 5 units in an arm, or where all replicates
/// agree, there is no test, and `note` says why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns or resampling, [`Error::Invalid`] for more than one outcome, for
/// summaries of bootstrap weights, and for a confidence outside of (0, 1).
///
/// # References
/// Imbens and Rubin (2015), Causal inference for statistics, social, and biomedical sciences, chapter 5, Cambridge
/// University Press, doi:10.1017/CBO9781139025751.
pub fn permutation_test(t: &Replicates, c: &Replicates, inference: &Inference) -> Result<Effect> {
    let Law::Assignment(_) = t.resampling().law else {
        return Err(Error::Invalid(
            "expected replicates of a new assignment, found those of bootstrap weights".into(),
        ));
    };
    check_outcomes(t.columns().outcomes(), 1)?;
    let mut all = t.clone();
    all.merge(c)?;
    let mut effect = Effect::of_arms(t, c, inference, "permutation")?;
    effect.remark_uncounted("replicates");
    let mean = |arm: &Replicates| {
        let sum = arm.sum();
        Ratio::of(&sum.sums[0], &ExactSum::from_integer(sum.n.into()))
    };
    let (mean_t, mean_c) = (mean(t), mean(c));
    if !effect.set_ratios(&mean_t, &mean_c) {
        return Ok(effect);
    }
    let estimate = mean_t.minus(&mean_c);
    let control = effect.mean_control.unwrap_or(f64::NAN);
    let sum = all.sum();
    let (Some(y), n) = (Dyadic::of(&sum.sums[0]), Dyadic::count(sum.n)) else {
        effect.set_not_finite();
        return Ok(effect);
    };
    effect.set_estimate(estimate, control);
    if effect.lacks_known_units((t.units(), c.units()), LEAST_UNITS) {
        return Ok(effect);
    }
    let totals = all.totals();
    let replicates = totals.rows.len();
    let drawn: Vec<f64> = totals.columns[0]
        .iter()
        .zip(&totals.rows)
        .filter_map(|(y_b, n_b)| {
            let (y_b, n_b) = (Dyadic::of(y_b)?, Dyadic::of(n_b)?);
            let rest = n.minus(&n_b);
            // Y*/N* − (Y − Y*)/(N − N*).
            let whole = !n_b.is_zero() && !rest.is_zero();
            whole.then(|| n.times(&y_b).minus(&y.times(&n_b)).over(&n_b.times(&rest)))
        })
        .collect();
    if drawn.len() < replicates {
        effect.remark(format!(
            "left out, empty in an arm: {} of {replicates} replicates",
            replicates - drawn.len()
        ));
    }
    if drawn.len() < 2 {
        effect.remark("too few replicates for a standard error");
        return Ok(effect);
    }
    let total = drawn.len() as f64 + 1.0;
    let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
    let squares: f64 = drawn.iter().map(|d| (d - mean).powi(2)).sum();
    let std_error = (squares / (drawn.len() as f64 - 1.0)).sqrt();
    if !std_error.is_finite() {
        effect.set_not_finite();
        effect.set_estimate(estimate, control);
        return Ok(effect);
    }
    effect.std_error = Some(std_error);
    if effect.lacks_variance(std_error) {
        return Ok(effect);
    }
    effect.statistic = Some(estimate / std_error);
    let count = |reaches: &dyn Fn(f64) -> bool| drawn.iter().filter(|&&d| reaches(d)).count();
    let reaching = match inference.alternative {
        Alternative::TwoSided => count(&|d| d.abs() >= estimate.abs()),
        Alternative::Greater => count(&|d| d >= estimate),
        Alternative::Less => count(&|d| d <= estimate),
    };
    effect.p_value = Some((1.0 + reaching as f64) / total);
    Ok(effect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::moments::Columns;
    use crate::summary::{ReplicatesTable, Resampling, Rows, Table};
    use crate::units;

    fn arm(y: &[f64], first: i128, share: u16, seed: u64) -> Replicates {
        let columns = Columns::new(["y".to_owned()], 1).expect("a valid column");
        let resampling = Resampling {
            law: Law::Assignment(share),
            replicates: 999,
            seed,
            ..Resampling::default()
        };
        let mut table = ReplicatesTable::new(columns, resampling).expect("valid resampling");
        table.resize(1);
        let ids: Vec<u128> = (0..y.len() as i128).map(|i| units::integer(first + i)).collect();
        let slots = vec![0; y.len()];
        table.update(Rows {
            slots: &slots,
            columns: &[y],
            missing: &[None],
            units: &ids,
            ..Rows::default()
        });
        table.get(0)
    }

    /// By the new assignments one by one.
    #[test]
    fn differences_are_those_of_the_new_arms() {
        let y: Vec<f64> = (0..90).map(|i| f64::from(i * i % 37)).collect();
        let (t, c) = (arm(&y[..30], 0, 21845, 5), arm(&y[30..], 30, 21845, 5));
        let e = permutation_test(&t, &c, &Inference::default()).expect("valid");
        let weights = crate::weights::Weights::new(Law::Assignment(21845), 5);
        let assigned: Vec<Vec<u8>> = (0..90)
            .map(|i| {
                let mut row = vec![0; 999];
                weights.fill(units::integer(i), &mut row);
                row
            })
            .collect();
        let mut reaching = 0;
        let estimate = e.estimate.expect("defined");
        for b in 0..999 {
            let mean = |arm: u8| {
                let of = assigned.iter().zip(&y).filter(|(row, _)| row[b] == arm);
                let (sum, n) = of.fold((0.0, 0.0), |(sum, n), (_, y)| (sum + y, n + 1.0));
                sum / n
            };
            reaching += usize::from((mean(1) - mean(0)).abs() >= estimate.abs() - 1e-12);
        }
        assert_eq!(e.p_value, Some((1.0 + reaching as f64) / 1000.0));
    }

    /// Without an effect 5 of 100 tests find one, and the standard error is that of the pooled variance.
    #[test]
    fn no_effect_is_found_as_often_as_it_should() {
        let experiments = 600;
        let mut found = 0;
        for seed in 0..experiments {
            let y: Vec<f64> = (0..100)
                .map(|i| {
                    let uniform = (units::integer(1000 * seed + i) >> 75) as f64 + 0.5;
                    -(uniform / (1u64 << 53) as f64).ln()
                })
                .collect();
            let (t, c) =
                (arm(&y[..20], 0, 13107, seed as u64), arm(&y[20..], 20, 13107, seed as u64));
            let e = permutation_test(&t, &c, &Inference::default()).expect("valid");
            found += usize::from(e.p_value.expect("defined") <= 0.05);
        }
        let band = 4.0 * (0.05 * 0.95 / experiments as f64).sqrt();
        assert!((found as f64 / experiments as f64 - 0.05).abs() < band, "{found}");
    }

    #[test]
    fn other_weights_and_few_units_are_said() {
        let (t, c) = (arm(&[1.0; 3], 0, 100, 1), arm(&[2.0; 30], 10, 100, 1));
        let e = permutation_test(&t, &c, &Inference::default()).expect("valid");
        assert_eq!((e.estimate, e.p_value), (Some(-1.0), None));
        assert!(e.note.expect("a note").contains("too few units"));
        let columns = Columns::new(["y".to_owned()], 1).expect("a valid column");
        let plain = Replicates::new(columns, Resampling::default()).expect("valid resampling");
        assert!(permutation_test(&plain, &plain, &Inference::default()).is_err());
        let e = super::super::bootstrap_replicates(
            &t,
            &t,
            &Inference::default(),
            super::super::Interval::Normal,
        );
        assert!(e.is_err());
    }
}
