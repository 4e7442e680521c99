//! Post-stratification: the difference of means stratum by stratum, weighted by the sizes of the strata.

use super::covariates::{Kept, residual_variance};
use super::dyadic::{comoment, mean_difference};
use super::effect::Effect;
use super::infer::{Difference, check_outcomes};
use super::ttest::welch;
use crate::inference::Inference;
use crate::linalg::Factor;
use crate::summary::{Moments, StratifiedMoments, Summary};
use crate::{Error, Result};

/// What is done with strata that have fewer than two units in an arm: their difference or its variance is not defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmptyCells {
    /// They are taken together as one stratum, with the smallest of the others where they are still too small.
    #[default]
    Collapse,
    /// They are left out: the effect is that in the other strata.
    Drop,
    /// They are an error.
    Error,
}

/// What is asked of a post-stratified estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PostStratifyOptions {
    /// What is done with strata that have fewer than two units in an arm.
    pub empty: EmptyCells,
    /// Whether the shares of the strata vary as well: the units are a sample of those that the effect is of.
    pub superpopulation: bool,
}

/// The post-stratified difference of means, adjusted for the covariates if there are any; every row is a unit.
///
/// Formula: `τ̂ = Σ_h W_h τ̂_h` over the strata `h`, with the share `W_h = N_h/N` of the units of both arms and the
/// difference of means `τ̂_h = ȳ_th − ȳ_ch`. Its variance is `Σ_h W_h² (s²_th/n_th + s²_ch/n_ch)`, with Satterthwaite's
/// degrees of freedom from `n_ah − 1` of every cell of an arm and a stratum. This is the regression on strata, arm and
/// all their products, with HC2.
///
/// The variance is that given how many units of each stratum are in each arm, which is known once the units are: no
/// term `(1 − W_h) s²/n²` is added, which averages over the assignments that might have been. The shares are those of
/// these units, unless `superpopulation` adds `Σ_h W_h (τ̂_h − τ̂)²/(N − 1)`.
///
/// With covariates, `y − θ'x` is in the place of `y`, with CUPED's `θ = (Σ M_xx)⁻¹ Σ M_xy` from the sums of squares and
/// products within each arm of each stratum; `θ` costs no degrees of freedom, and the mean of the covariates over both
/// arms of a stratum is taken as fixed. `relative` is over the post-stratified mean of control; `mean_*` are not adjusted;
/// `variance_reduction` compares with Welch's test of the same rows.
///
/// Strata with fewer than two units in an arm follow [`EmptyCells`], a rule that looks at numbers of units alone; `note`
/// says which strata it was applied to. The stratum without a label is one like others.
///
/// Assumptions: rows are independent units of randomisation; strata and covariates are not affected by the treatment;
/// many more units than strata.
///
/// Small samples: without rows in an arm, or where no stratum is left, there is no estimate; with one unit in an arm, or
/// no variance left, there is no test and no interval, and `note` says why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns, [`Error::Invalid`] for more than one outcome, a confidence
/// outside of (0, 1), or under [`EmptyCells::Error`] a stratum with fewer than two units in an arm.
///
/// # References
/// Holt and Smith (1979), Post stratification, JRSS A 142(1), 33–46, doi:10.2307/2344652. Miratrix, Sekhon and Yu (2013),
/// Adjusting treatment effect estimates by post-stratification in randomized experiments, JRSS B 75(2), 369–396,
/// doi:10.1111/j.1467-9868.2012.01048.x.
pub fn post_stratify(
    t: &StratifiedMoments,
    c: &StratifiedMoments,
    inference: &Inference,
    options: &PostStratifyOptions,
) -> Result<Effect> {
    let mut effect = Effect::of_arms(t, c, inference, "post_stratify")?;
    check_outcomes(t.columns().outcomes(), 1)?;
    let strata = Stratum::of_arms(t, c);
    let (all_t, all_c) = totals(t, &strata)?;
    if !effect.set_means(&all_t, &all_c) {
        return Ok(effect);
    }
    let mut strata = effect.apply_rule(strata, options.empty)?;
    if strata.is_empty() {
        return Ok(effect);
    }
    let (all_t, all_c) = totals(t, &strata)?;
    // All cells have the indicators of missing covariates that any of them has.
    for cell in strata.iter_mut().flat_map(|stratum| [&mut stratum.t, &mut stratum.c]) {
        *cell = Moments::aligned(cell, &all_t)?.0;
    }
    (effect.n_treatment, effect.n_control) = (Some(all_t.n()), Some(all_c.n()));
    effect.set_means(&all_t, &all_c);
    if strata.len() == 1 {
        effect.remark("not stratified: there is one stratum");
    }

    let cells = || strata.iter().flat_map(|stratum| [&stratum.t, &stratum.c]);
    let pooled = |i: usize, j: usize| cells().map(|cell| comoment(cell, i, j)).sum::<f64>();
    let mut factor = Factor::default();
    let kept = Kept::choose(1..all_t.width(), |column, kept| {
        let row: Vec<f64> = kept.iter().chain([&column]).map(|&k| pooled(column, k)).collect();
        factor.next_row(&row).map(|row| factor.push(row)).is_some()
    });
    if t.columns().covariates() > 0 {
        effect.method += " cuped";
        effect.remark_covariates(&all_t, &all_c, &kept);
    }
    if options.superpopulation {
        effect.method += " superpopulation";
    }
    let with_outcome: Vec<f64> = kept.columns.iter().map(|&column| pooled(column, 0)).collect();
    let weights = kept.weights(&factor.solve(&with_outcome));

    let n = all_t.n() as f64 + all_c.n() as f64;
    let parts: Vec<Part> = strata.iter().map(|stratum| Part::new(stratum, &weights, n)).collect();
    let weighted = |of: fn(&Part) -> f64| parts.iter().map(|p| p.share * of(p)).sum::<f64>();
    let (estimate, control) = (weighted(|p| p.difference), weighted(|p| p.control));
    if effect.lacks_units((all_t.n(), all_c.n()), 2) {
        effect.set_estimate(estimate, control);
        return Ok(effect);
    }
    let squared = |of: fn(&Part) -> f64| parts.iter().map(|p| p.share * p.share * of(p)).sum();
    let (v_t, v_c): (f64, f64) = (squared(|p| p.v_t), squared(|p| p.v_c));
    let df = satterthwaite(&strata, &parts, v_t + v_c);
    let mut difference = Difference::independent(estimate, control, v_t, v_c, df);
    if options.superpopulation {
        let spread = |a: fn(&Part) -> f64, b: fn(&Part) -> f64| {
            let (mean_a, mean_b) = (weighted(a), weighted(b));
            let part = |p: &Part| p.share * (a(p) - mean_a) * (b(p) - mean_b);
            parts.iter().map(part).sum::<f64>() / (n - 1.0)
        };
        difference.add_common(
            spread(|p| p.difference, |p| p.difference),
            spread(|p| p.control, |p| p.control),
            spread(|p| p.difference, |p| p.control),
        );
    }
    effect.infer(inference, &difference);
    let plain = mean_difference(&all_t, &all_c, &[(0, 1.0)]);
    effect.set_variance_reduction(&difference, &welch(&all_t, &all_c, plain));
    Ok(effect)
}

/// A stratum, or several that are taken together.
#[derive(Debug, Clone)]
struct Stratum {
    labels: Vec<Option<String>>,
    t: Moments,
    c: Moments,
}

impl Stratum {
    /// The strata of either arm, in the order of their labels.
    fn of_arms(t: &StratifiedMoments, c: &StratifiedMoments) -> Vec<Self> {
        let only_c = c.strata().keys().filter(|label| !t.strata().contains_key(*label));
        let mut labels: Vec<&Option<String>> = t.strata().keys().chain(only_c).collect();
        labels.sort_unstable();
        let cell = |arm: &StratifiedMoments, label: &Option<String>| {
            let cell = arm.strata().get(label).cloned();
            cell.unwrap_or_else(|| Moments::new(arm.columns().clone()))
        };
        let stratum = |label: &Option<String>| Self {
            labels: vec![label.clone()],
            t: cell(t, label),
            c: cell(c, label),
        };
        labels.into_iter().map(stratum).collect()
    }

    fn units(&self) -> u64 {
        self.t.n() + self.c.n()
    }

    fn is_thin(&self) -> bool {
        self.t.n() < 2 || self.c.n() < 2
    }

    fn join(&mut self, other: Self) -> Result<()> {
        self.labels.extend(other.labels);
        self.t.merge(&other.t)?;
        self.c.merge(&other.c)
    }
}

/// The moments of treatment and control over all strata.
fn totals(like: &StratifiedMoments, strata: &[Stratum]) -> Result<(Moments, Moments)> {
    let empty = || Moments::new(like.columns().clone());
    let (mut t, mut c) = (empty(), empty());
    for stratum in strata {
        t.merge(&stratum.t)?;
        c.merge(&stratum.c)?;
    }
    Moments::aligned(&t, &c)
}

impl Effect {
    /// Applies the rule for strata that are too small, and says to which it was applied.
    fn apply_rule(&mut self, strata: Vec<Stratum>, rule: EmptyCells) -> Result<Vec<Stratum>> {
        let all: u64 = strata.iter().map(Stratum::units).sum();
        let (thin, mut strata): (Vec<_>, Vec<_>) = strata.into_iter().partition(Stratum::is_thin);
        let Some(first) = thin.first() else { return Ok(strata) };
        let count = |strata: &[Stratum]| {
            let units: u64 = strata.iter().map(Stratum::units).sum();
            format!("{} ({units} of {all} units)", listed(strata))
        };
        match rule {
            EmptyCells::Error => Err(Error::Invalid(format!(
                "expected at least 2 units of each stratum in each arm, found {} in treatment and {} in control of {}",
                first.t.n(),
                first.c.n(),
                listed(std::slice::from_ref(first)),
            ))),
            EmptyCells::Drop => {
                self.remark(format!(
                    "strata with fewer than 2 units in an arm are left out: {}",
                    count(&thin)
                ));
                if strata.is_empty() {
                    self.remark("no stratum is left");
                }
                Ok(strata)
            }
            EmptyCells::Collapse => {
                let mut text = format!(
                    "strata with fewer than 2 units in an arm are taken together: {}",
                    count(&thin)
                );
                let mut joined = first.clone();
                thin.into_iter().skip(1).try_for_each(|stratum| joined.join(stratum))?;
                while let Some(at) = smallest(&strata).filter(|_| joined.is_thin()) {
                    let next = strata.remove(at);
                    text += &format!(", with {}", count(std::slice::from_ref(&next)));
                    joined.join(next)?;
                }
                self.remark(text);
                strata.push(joined);
                Ok(strata)
            }
        }
    }
}

/// The place of the stratum with the fewest units, the first by label of several.
fn smallest(strata: &[Stratum]) -> Option<usize> {
    (0..strata.len()).min_by_key(|&at| strata[at].units())
}

/// Labels for a note, the first of many.
fn listed(strata: &[Stratum]) -> String {
    const SHOWN: usize = 10;
    let labels = || strata.iter().flat_map(|stratum| &stratum.labels);
    let shown = |label: &Option<String>| {
        label.as_ref().map_or_else(|| "NULL".to_owned(), |label| format!("'{label}'"))
    };
    let mut text = labels().take(SHOWN).map(shown).collect::<Vec<_>>().join(", ");
    let more = labels().count().saturating_sub(SHOWN);
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// What a stratum adds to the estimate.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Its share of the units of both arms.
    share: f64,
    difference: f64,
    /// The mean of control at the covariates' mean over both arms of the stratum.
    control: f64,
    /// The variances of the means of its arms.
    v_t: f64,
    v_c: f64,
}

impl Part {
    fn new(Stratum { t, c, .. }: &Stratum, weights: &[(usize, f64)], n: f64) -> Self {
        let units = t.n() as f64 + c.n() as f64;
        let difference = mean_difference(t, c, weights);
        // x̄_c − x̄ is −n_t/N of x̄_t − x̄_c.
        let adjustment = difference - mean_difference(t, c, &[(0, 1.0)]);
        let variance = |arm: &Moments| residual_variance(arm, weights) / arm.n() as f64;
        Self {
            share: units / n,
            difference,
            control: c.mean(0) - t.n() as f64 / units * adjustment,
            v_t: variance(t),
            v_c: variance(c),
        }
    }
}

/// Satterthwaite's degrees of freedom over all cells.
fn satterthwaite(strata: &[Stratum], parts: &[Part], variance: f64) -> f64 {
    let cells = strata.iter().zip(parts).flat_map(|(stratum, part)| {
        [(&stratum.t, part.v_t), (&stratum.c, part.v_c)].map(|(cell, v)| {
            // In shares of the variance, whose squares neither overflow nor underflow.
            let share = part.share * part.share * v / variance;
            share * share / (cell.n() as f64 - 1.0)
        })
    });
    1.0 / cells.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{LinOptions, cuped, lin};
    use crate::summary::{Columns, Rows, Strata, StratifiedTable, Table};

    /// Outcomes (and covariates) with the place of their stratum among "a", "b", "c" and none.
    fn arm(columns: &[&[f64]], of: &[u32]) -> StratifiedMoments {
        let names = ["y", "x"][..columns.len()].iter().map(ToString::to_string);
        let mut table = StratifiedTable::new(Columns::new(names, 1).expect("valid columns"));
        table.resize(1);
        let labels = [Some("a".into()), Some("b".into()), Some("c".into()), None];
        table.update(Rows {
            slots: &vec![0; of.len()],
            columns,
            missing: &vec![None; columns.len()],
            strata: Strata { labels: &labels, of },
            ..Rows::default()
        });
        table.get(0)
    }

    const ASIS: PostStratifyOptions =
        PostStratifyOptions { empty: EmptyCells::Collapse, superpopulation: false };

    fn effect(t: &StratifiedMoments, c: &StratifiedMoments, empty: EmptyCells) -> Effect {
        let options = PostStratifyOptions { empty, ..ASIS };
        post_stratify(t, c, &Inference::default(), &options).expect("valid summaries")
    }

    #[test]
    fn strata_are_weighted_by_the_units_of_both_arms() {
        let t = arm(&[&[3.0, 5.0, 9.0, 10.0, 14.0]], &[0, 0, 1, 1, 1]);
        let c = arm(&[&[1.0, 2.0, 6.0, 4.0, 8.0, 5.0]], &[0, 0, 0, 0, 1, 1]);
        let e = effect(&t, &c, EmptyCells::Error);
        // Means 4 and 11 in treatment, 3.25 and 6.5 in control; shares 6/11 and 5/11.
        let [a, b] = [6.0 / 11.0, 5.0 / 11.0];
        assert!((e.estimate.expect("defined") - (a * 0.75 + b * 4.5)).abs() < 1e-14);
        // Variances 2 and 7, 59/12 and 4.5.
        let cells: [(f64, f64); 4] = [
            (a * a * 1.0, 1.0),
            (b * b * 7.0 / 3.0, 2.0),
            (a * a * 59.0 / 48.0, 3.0),
            (b * b * 2.25, 1.0),
        ];
        let variance: f64 = cells.iter().map(|(v, _)| v).sum();
        assert!((e.std_error.expect("defined") - variance.sqrt()).abs() < 1e-14);
        let df = variance * variance / cells.iter().map(|(v, df)| v * v / df).sum::<f64>();
        assert!((e.df.expect("defined") - df).abs() < 1e-12);
        let relative = (a * 0.75 + b * 4.5) / (a * 3.25 + b * 6.5);
        assert!((e.relative.expect("defined") - relative).abs() < 1e-14);
        assert_eq!((e.mean_treatment, e.n_control, &e.note), (Some(8.2), Some(6), &None));
        // The estimate of lin with a dummy, and its term for a superpopulation.
        let dummy = |of: &[u32]| of.iter().map(|&s| f64::from(s)).collect::<Vec<_>>();
        let (s_t, s_c) = (dummy(&[0, 0, 1, 1, 1]), dummy(&[0, 0, 0, 0, 1, 1]));
        let names = ["y", "s"];
        let m_t = Moments::of(&names, 1, &[&[3.0, 5.0, 9.0, 10.0, 14.0], &s_t]).expect("valid");
        let m_c = Moments::of(&names, 1, &[&[1.0, 2.0, 6.0, 4.0, 8.0, 5.0], &s_c]).expect("valid");
        let of_lin = |superpopulation| {
            let options = LinOptions { superpopulation, ..LinOptions::default() };
            lin(&m_t, &m_c, &Inference::default(), &options).expect("valid summaries")
        };
        assert!((of_lin(false).estimate.expect("defined") - (a * 0.75 + b * 4.5)).abs() < 1e-13);
        let options = PostStratifyOptions { superpopulation: true, ..ASIS };
        let wide = post_stratify(&t, &c, &Inference::default(), &options).expect("valid summaries");
        let term = |wide: &Effect, e: &Effect| {
            wide.std_error.expect("defined").powi(2) - e.std_error.expect("defined").powi(2)
        };
        assert!((term(&wide, &e) - term(&of_lin(true), &of_lin(false))).abs() < 1e-12);
    }

    #[test]
    fn one_stratum_is_no_stratification() {
        let (y_t, y_c) = ([3.0, 5.0, 9.5, 10.0, 14.0], [1.0, 2.0, 6.0, 4.25, 8.0, 5.0]);
        let (x_t, x_c) = ([1.0, 2.0, 4.0, 5.0, 6.0], [0.5, 1.0, 3.0, 2.0, 4.0, 1.0]);
        let e = effect(
            &arm(&[&y_t, &x_t], &[3; 5]),
            &arm(&[&y_c, &x_c], &[3; 6]),
            EmptyCells::default(),
        );
        let of =
            |y: &[f64], x: &[f64]| Moments::of(&["y", "x"], 1, &[y, x]).expect("valid columns");
        let plain = cuped(&of(&y_t, &x_t), &of(&y_c, &x_c), &Inference::default());
        let plain = plain.expect("valid summaries");
        assert_eq!(
            (e.estimate, e.std_error, e.relative),
            (plain.estimate, plain.std_error, plain.relative)
        );
        assert!((e.df.expect("defined") / plain.df.expect("defined") - 1.0).abs() < 1e-14);
        assert_eq!(e.method, "post_stratify cuped");
        assert_eq!(e.note.as_deref(), Some("not stratified: there is one stratum"));
    }

    #[test]
    fn strata_that_are_too_small_follow_the_rule() {
        // "b" has one unit in treatment, those without a stratum none in control.
        let t = arm(&[&[3.0, 5.0, 9.0, 10.0, 14.0]], &[0, 0, 0, 1, 3]);
        let c = arm(&[&[1.0, 2.0, 6.0, 4.0, 8.0, 5.0]], &[0, 0, 0, 0, 1, 1]);
        let collapsed = effect(&t, &c, EmptyCells::Collapse);
        let note = "strata with fewer than 2 units in an arm are taken together: NULL, 'b' (4 of 11 units)";
        assert_eq!(collapsed.note.as_deref(), Some(note));
        let same =
            effect(&arm(&[&[3.0, 5.0, 9.0, 10.0, 14.0]], &[0, 0, 0, 1, 1]), &c, EmptyCells::Error);
        assert_eq!(Effect { note: None, ..collapsed }, same);
        let dropped = effect(&t, &c, EmptyCells::Drop);
        // Means 17/3 and 13/4.
        assert_eq!(dropped.estimate, Some(29.0 / 12.0));
        assert_eq!((dropped.n_treatment, dropped.rows_treatment), (Some(3), 5));
        let note = dropped.note.expect("a note");
        assert!(note.contains("are left out: NULL, 'b' (4 of 11 units)"), "{note}");
        let options = PostStratifyOptions { empty: EmptyCells::Error, ..ASIS };
        let error = post_stratify(&t, &c, &Inference::default(), &options).expect_err("too small");
        assert!(
            error.to_string().contains("found 1 in treatment and 0 in control of NULL"),
            "{error}"
        );
    }

    #[test]
    fn a_rest_that_is_still_too_small_is_joined_by_the_smallest_stratum() {
        let t = arm(&[&[3.0, 5.0, 9.0, 10.0, 14.0]], &[0, 0, 1, 1, 2]);
        let c = arm(&[&[1.0, 2.0, 6.0, 4.0, 8.0]], &[0, 0, 0, 1, 1]);
        let e = effect(&t, &c, EmptyCells::Collapse);
        let note = e.note.expect("a note");
        assert!(
            note.ends_with("together: 'c' (1 of 10 units), with 'b' (4 of 10 units)"),
            "{note}"
        );
        let apart =
            effect(&arm(&[&[1.0, 2.0]], &[0, 0]), &arm(&[&[3.0, 4.0]], &[1, 1]), EmptyCells::Drop);
        assert_eq!((apart.estimate, apart.mean_control), (None, Some(3.5)));
        assert!(apart.note.expect("a note").ends_with("no stratum is left"));
        let one =
            effect(&arm(&[&[1.0]], &[0]), &arm(&[&[3.0, 4.0]], &[1, 1]), EmptyCells::Collapse);
        assert_eq!((one.estimate, one.std_error), (Some(-2.5), None));
    }
}
