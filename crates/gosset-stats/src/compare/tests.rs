//! What holds for every comparison: duality of p-value and interval, symmetry, offsets, and what is undefined.

use proptest::prelude::*;

use super::*;
use crate::summary::moments::Columns;
use crate::summary::{
    BucketTable, Buckets, Counts, Law, Moments, Replicates, ReplicatesTable, Resampling, Rows,
    Table,
};
use crate::{Alternative, Error, Inference, Relative, Result, units};

/// A comparison of the rows of two arms: outcome and one covariate.
type Comparison = fn(&[Row], &[Row], &Inference) -> Result<Effect>;

#[derive(Debug, Clone, Copy)]
struct Row {
    unit: i128,
    y: f64,
    x: f64,
}

fn moments(names: &[&str], outcomes: usize, rows: &[Row]) -> Moments {
    let y: Vec<f64> = rows.iter().map(|r| r.y).collect();
    let x: Vec<f64> = rows.iter().map(|r| r.x).collect();
    Moments::of(names, outcomes, &[&y[..], &x[..]][..names.len()]).expect("valid columns")
}

/// What the columns of units are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    /// An outcome.
    Mean,
    /// Numerator and denominator.
    Ratio,
    /// An outcome and a covariate.
    Adjusted,
}

impl Shape {
    fn columns(self) -> Columns {
        let (names, outcomes) = match self {
            Self::Mean => (&["y"][..], 1),
            Self::Ratio => (&["y", "d"][..], 2),
            Self::Adjusted => (&["y", "x"][..], 1),
        };
        Columns::new(names.iter().map(|&name| name.into()), outcomes).expect("valid columns")
    }

    fn fill(self, rows: &[Row], table: &mut impl Table) {
        let y: Vec<f64> = rows.iter().map(|r| r.y).collect();
        let x: Vec<f64> = rows.iter().map(|r| r.x).collect();
        let units: Vec<u128> = rows.iter().map(|r| units::integer(r.unit)).collect();
        let width = self.columns().len();
        table.resize(1);
        table.update(Rows {
            slots: &vec![0; rows.len()],
            columns: &[&y[..], &x[..]][..width],
            missing: &vec![None; width],
            units: &units,
            ..Rows::default()
        });
    }
}

fn buckets(rows: &[Row], buckets: u32, shape: Shape) -> Buckets {
    let mut table = BucketTable::new(shape.columns(), buckets).expect("a valid number of buckets");
    shape.fill(rows, &mut table);
    table.get(0)
}

fn replicates(rows: &[Row], shape: Shape, resampling: Resampling) -> Replicates {
    let mut table = ReplicatesTable::new(shape.columns(), resampling).expect("valid resampling");
    shape.fill(rows, &mut table);
    table.get(0)
}

/// Replicates of Poisson weights without buckets.
fn poisson(replicates: u32, seed: u64) -> Resampling {
    Resampling { replicates, seed, ..Resampling::default() }
}

fn run_keyed_cuped(t: &[Row], c: &[Row], inference: &Inference) -> Result<Effect> {
    let resampling = Resampling { buckets: Some(4096), ..poisson(199, 7) };
    let [t, c] = [t, c].map(|arm| replicates(arm, Shape::Adjusted, resampling));
    bootstrap_cuped_replicates(&t, &c, inference, Interval::Percentile)
}

fn run_cuped(t: &[Row], c: &[Row], inference: &Inference) -> Result<Effect> {
    let options = BootstrapOptions { replicates: 199, seed: 7, ..BootstrapOptions::default() };
    let [t, c] = [t, c].map(|arm| buckets(arm, 4096, Shape::Adjusted));
    bootstrap_cuped(&t, &c, inference, &options)
}

fn run_replicates(
    (t, c): (&[Row], &[Row]),
    inference: &Inference,
    interval: Interval,
) -> Result<Effect> {
    let resampling = Resampling { buckets: Some(256), ..poisson(199, 7) };
    let [t, c] = [t, c].map(|arm| replicates(arm, Shape::Mean, resampling));
    bootstrap_replicates(&t, &c, inference, interval)
}

fn run_bootstrap(
    (t, c): (&[Row], &[Row]),
    inference: &Inference,
    (count, interval): (u32, Interval),
) -> Result<Effect> {
    let options = BootstrapOptions { replicates: 199, seed: 7, interval };
    let [t, c] = [t, c].map(|arm| buckets(arm, count, Shape::Mean));
    bootstrap(&t, &c, inference, &options)
}

/// The comparisons of values.
const OF_VALUES: [(&str, Comparison); 18] = [
    ("welch", |t, c, i| {
        ttest(&moments(&["y"], 1, t), &moments(&["y"], 1, c), i, Variance::Unequal)
    }),
    ("student", |t, c, i| {
        ttest(&moments(&["y"], 1, t), &moments(&["y"], 1, c), i, Variance::Equal)
    }),
    ("ratio", |t, c, i| ratio_test(&moments(&["y", "d"], 2, t), &moments(&["y", "d"], 2, c), i)),
    ("cuped", |t, c, i| cuped(&moments(&["y", "x"], 1, t), &moments(&["y", "x"], 1, c), i)),
    ("lin", |t, c, i| {
        lin(&moments(&["y", "x"], 1, t), &moments(&["y", "x"], 1, c), i, &LinOptions::default())
    }),
    ("lin classical", |t, c, i| {
        lin(
            &moments(&["y", "x"], 1, t),
            &moments(&["y", "x"], 1, c),
            i,
            &LinOptions { vcov: LinVcov::Classical, superpopulation: true },
        )
    }),
    ("clustered", |t, c, i| {
        clustered_ttest(
            &buckets(t, 4096, Shape::Mean),
            &buckets(c, 4096, Shape::Mean),
            i,
            ClusteredStdError::Delta,
        )
    }),
    ("percentile", |t, c, i| run_bootstrap((t, c), i, (4096, Interval::Percentile))),
    ("basic", |t, c, i| run_bootstrap((t, c), i, (4096, Interval::Basic))),
    ("normal", |t, c, i| run_bootstrap((t, c), i, (64, Interval::Normal))),
    ("replicates percentile", |t, c, i| run_replicates((t, c), i, Interval::Percentile)),
    ("replicates basic", |t, c, i| run_replicates((t, c), i, Interval::Basic)),
    ("replicates normal", |t, c, i| run_replicates((t, c), i, Interval::Normal)),
    ("studentized", |t, c, i| run_bootstrap((t, c), i, (4096, Interval::Studentized))),
    ("bca", |t, c, i| run_bootstrap((t, c), i, (4096, Interval::Bca))),
    ("replicates bca", |t, c, i| run_replicates((t, c), i, Interval::Bca)),
    ("bootstrap cuped", run_cuped),
    ("replicates cuped", run_keyed_cuped),
];

/// The comparisons of proportions; the outcome is whether `y` is positive.
const OF_PROPORTIONS: [(&str, Comparison); 4] = [
    ("wald", |t, c, i| proportions(t, c, i, ProportionMethod::Wald)),
    ("score", |t, c, i| proportions(t, c, i, ProportionMethod::Score)),
    ("agresti-caffo", |t, c, i| proportions(t, c, i, ProportionMethod::AgrestiCaffo)),
    ("newcombe", |t, c, i| proportions(t, c, i, ProportionMethod::Newcombe)),
];

fn proportions(t: &[Row], c: &[Row], i: &Inference, method: ProportionMethod) -> Result<Effect> {
    let success = |rows: &[Row]| -> Moments {
        let y: Vec<f64> = rows.iter().map(|r| f64::from(u8::from(r.y > 0.0))).collect();
        Moments::of(&["success"], 1, &[&y]).expect("valid columns")
    };
    proportion_test(&success(t), &success(c), i, method)
}

fn all() -> impl Iterator<Item = (&'static str, Comparison)> {
    OF_VALUES.into_iter().chain(OF_PROPORTIONS)
}

/// Deterministic normal draws (SplitMix64 and Box and Muller).
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// An arm whose outcome depends on its covariate; the covariate is positive.
    fn arm(&mut self, first: i128, n: usize, mean: f64) -> Vec<Row> {
        (0..n)
            .map(|i| {
                let x = 4.0 + self.uniform();
                let y = mean + 2.0 * (x - 4.5) + self.normal();
                Row { unit: first + i as i128, y, x }
            })
            .collect()
    }
}

fn mapped(rows: &[Row], f: impl Fn(Row) -> Row) -> Vec<Row> {
    rows.iter().copied().map(f).collect()
}

/// Every number of an effect.
fn numbers(e: &Effect) -> [Option<f64>; 14] {
    [
        e.estimate,
        e.std_error,
        e.statistic,
        e.df,
        e.p_value,
        e.ci_lower,
        e.ci_upper,
        e.relative,
        e.relative_std_error,
        e.relative_ci_lower,
        e.relative_ci_upper,
        e.mean_control,
        e.mean_treatment,
        e.variance_reduction,
    ]
}

fn arms() -> impl Strategy<Value = (Vec<Row>, Vec<Row>)> {
    (any::<u64>(), 6..40usize, 6..40usize, -1.5..1.5).prop_map(|(seed, n, m, effect)| {
        let mut draws = Draws(seed);
        (draws.arm(0, n, 0.4 + effect), draws.arm(1000, m, 0.4))
    })
}

fn alternatives() -> impl Strategy<Value = Alternative> {
    prop_oneof![Just(Alternative::TwoSided), Just(Alternative::Greater), Just(Alternative::Less)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The p-value is the smallest α whose interval excludes 0.
    #[test]
    fn an_interval_excludes_no_effect_where_p_is_below_alpha(
        (t, c) in arms(), alternative in alternatives(), alpha in 0.02..0.45f64,
    ) {
        let inference = Inference { confidence: 1.0 - alpha, alternative, ..Inference::default() };
        for (name, compare) in all() {
            let e = compare(&t, &c, &inference).expect("valid summaries");
            let (Some(p), Some(lower), Some(upper)) = (e.p_value, e.ci_lower, e.ci_upper) else {
                prop_assert!(e.note.is_some(), "{name}");
                continue;
            };
            prop_assert!((0.0..=1.0).contains(&p), "{name}: {p}");
            prop_assume!((p - alpha).abs() > 1e-9);
            let excluded = lower > 0.0 || upper < 0.0;
            prop_assert_eq!(p < alpha, excluded, "{}: p {}, {} to {}", name, p, lower, upper);
            prop_assert_eq!(lower == f64::NEG_INFINITY, alternative == Alternative::Less);
            prop_assert_eq!(upper == f64::INFINITY, alternative == Alternative::Greater);
            let (Some(low), Some(high)) = (e.relative_ci_lower, e.relative_ci_upper) else { continue };
            prop_assert!(low <= high, "{name}: {low} to {high}");
            // These have no relative interval of their own.
            let others = ["score", "newcombe", "basic", "studentized", "bca"];
            if !others.contains(&name.trim_start_matches("replicates ")) {
                prop_assert_eq!(low > 0.0 || high < 0.0, excluded, "{}: {} to {}", name, low, high);
            }
        }
    }

    /// Treatment − control is minus control − treatment, to the bit.
    #[test]
    fn swapped_arms_negate_the_effect((t, c) in arms()) {
        let inference = Inference::default();
        for (name, compare) in all() {
            let e = compare(&t, &c, &inference).expect("valid summaries");
            let s = compare(&c, &t, &inference).expect("valid summaries");
            prop_assert_eq!(e.estimate.map(|x| -x), s.estimate, "{}", name);
            if !name.ends_with("bca") {
                prop_assert_eq!(e.p_value, s.p_value, "{}", name);
            }
            prop_assert_eq!((e.mean_control, e.n_control), (s.mean_treatment, s.n_treatment));
            // Sums of two variances and of two counts are the same either way; roots of an equation and tails of the
            // normal law are near.
            for (a, b) in [
                (e.p_value, s.p_value),
                (e.std_error, s.std_error),
                (e.df, s.df),
                (e.ci_lower, s.ci_upper.map(|x| -x)),
                (e.ci_upper, s.ci_lower.map(|x| -x)),
            ] {
                let near = match (a, b) {
                    (Some(a), Some(b)) => a == b || (a - b).abs() <= 1e-13 * a.abs().max(1.0),
                    (a, b) => a == b,
                };
                prop_assert!(near, "{}: {:?} and {:?}", name, a, b);
            }
        }
    }

    /// Sums are exact: whole values are compared to the same bits under any whole offset.
    #[test]
    fn an_offset_changes_no_bit_of_a_difference((t, c) in arms()) {
        let inference = Inference::default();
        let whole = |rows: &[Row], offset: f64| {
            mapped(rows, |r| Row {
                y: (r.y * 64.0).round() + offset,
                x: (r.x * 64.0).round() + offset,
                ..r
            })
        };
        for (name, compare) in OF_VALUES {
            if name == "ratio" {
                continue;
            }
            let near = compare(&whole(&t, 0.0), &whole(&c, 0.0), &inference);
            let far = compare(&whole(&t, 1e9), &whole(&c, 1e9), &inference);
            let (near, far) = (near.expect("valid summaries"), far.expect("valid summaries"));
            prop_assert_eq!(&numbers(&near)[..7], &numbers(&far)[..7], "{}", name);
        }
    }

    /// Units of measurement do not matter.
    #[test]
    fn the_relative_effect_has_no_scale((t, c) in arms()) {
        let inference = Inference::default();
        let scaled = |rows: &[Row]| mapped(rows, |r| Row { y: r.y * 1024.0, ..r });
        for (name, compare) in OF_VALUES {
            let e = compare(&t, &c, &inference).expect("valid summaries");
            let s = compare(&scaled(&t), &scaled(&c), &inference).expect("valid summaries");
            prop_assert_eq!(&numbers(&e)[7..11], &numbers(&s)[7..11], "{}", name);
            prop_assert_eq!((e.p_value, e.df), (s.p_value, s.df), "{}", name);
            prop_assert_eq!(e.estimate.map(|x| x * 1024.0), s.estimate, "{}", name);
        }
    }
}

#[test]
fn without_rows_there_is_no_number() {
    let rows = Draws(1).arm(0, 20, 1.0);
    for (name, compare) in all() {
        for (t, c, missing) in [
            (&rows[..], &[][..], "no rows in control"),
            (&[], &rows, "no rows in treatment"),
            (&[], &[], "no rows in either arm"),
        ] {
            let e = compare(t, c, &Inference::default()).expect("valid summaries");
            let only_means = numbers(&e).map(|number| number.is_some());
            let mut expected = [false; 14];
            (expected[11], expected[12]) = (!c.is_empty(), !t.is_empty());
            assert_eq!(only_means, expected, "{name}");
            assert_eq!((e.rows_treatment, e.rows_control), (t.len() as u64, c.len() as u64));
            assert!(
                e.note.as_deref().is_some_and(|n| n.ends_with(missing)),
                "{name}: {:?}",
                e.note
            );
        }
    }
}

#[test]
fn one_unit_in_an_arm_has_an_estimate_and_nothing_more() {
    let mut draws = Draws(2);
    let (one, many) = (draws.arm(0, 1, 1.0), draws.arm(100, 30, 1.0));
    for (name, compare) in OF_VALUES {
        for (t, c) in [(&one, &many), (&many, &one), (&one, &one)] {
            let e = compare(t, c, &Inference::default()).expect("valid summaries");
            assert!(e.estimate.is_some() && e.relative.is_some(), "{name}");
            assert_eq!(numbers(&e)[1..7], [None; 6], "{name}");
            assert_eq!(numbers(&e)[8..11], [None; 3], "{name}");
            assert!(
                e.note.as_deref().is_some_and(|n| n.contains("too few units")),
                "{name}: {e:?}"
            );
        }
    }
}

#[test]
fn two_units_in_each_arm_are_enough_for_a_t_test() {
    // Differences of 2 within the arms: s² = 2, variance 2/2 + 2/2 = 2, df = 2.
    let row = |unit, y| Row { unit, y, x: 1.0 };
    let (t, c) = ([row(0, 5.0), row(1, 7.0)], [row(2, 1.0), row(3, 3.0)]);
    for (name, compare) in
        OF_VALUES.iter().filter(|(n, _)| ["welch", "student", "clustered"].contains(n))
    {
        let e = compare(&t, &c, &Inference::default()).expect("valid summaries");
        assert_eq!(e.estimate, Some(4.0), "{name}");
        assert_eq!(e.std_error, Some(2f64.sqrt()), "{name}");
        assert_eq!(e.df, Some(2.0), "{name}");
        // Student with 2 degrees of freedom at √8.
        let p = 1.0 - (8f64 / 10.0).sqrt();
        assert!((e.p_value.expect("defined") / p - 1.0).abs() < 1e-14, "{name}");
    }
}

#[test]
fn no_variance_is_said_and_is_no_number() {
    let constant = |first: i128, y: f64| -> Vec<Row> {
        (0..30).map(|i| Row { unit: first + i, y, x: 0.1 * (i % 3) as f64 + 1.0 }).collect()
    };
    for (name, compare) in OF_VALUES {
        // A constant outcome is no constant ratio.
        let fix = |rows: Vec<Row>| {
            if name == "ratio" { mapped(&rows, |r| Row { y: r.y * r.x, ..r }) } else { rows }
        };
        let (t, c) = (fix(constant(0, 0.75)), fix(constant(100, 0.5)));
        let e = compare(&t, &c, &Inference::default()).expect("valid summaries");
        if name == "ratio" {
            // 0.75·1.1 is rounded: almost no variance, and still a number.
            assert!(e.std_error.expect("defined") < 1e-16, "{name}");
            continue;
        }
        assert_eq!((e.estimate, e.relative), (Some(0.25), Some(0.5)), "{name}");
        assert_eq!(e.std_error, Some(0.0), "{name}");
        assert_eq!(numbers(&e)[2..7], [None; 5], "{name}");
        assert_eq!(numbers(&e)[8..11], [None; 3], "{name}");
        assert!(e.note.as_deref().is_some_and(|n| n.contains("zero variance")), "{name}: {e:?}");
    }
    let e = OF_VALUES[0].1(&constant(0, 0.75), &Draws(3).arm(100, 30, 0.0), &Inference::default());
    assert!(e.expect("valid summaries").p_value.is_some(), "one arm may be constant");
}

#[test]
fn values_that_are_not_finite_give_nan() {
    let mut draws = Draws(4);
    let (t, c) = (draws.arm(0, 20, 1.0), draws.arm(100, 20, 1.0));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut broken = t.clone();
        broken[3].y = bad;
        for (name, compare) in OF_VALUES {
            for (t, c) in [(&broken, &c), (&c, &broken), (&broken, &broken)] {
                let e = compare(t, c, &Inference::default()).expect("valid summaries");
                let nan = numbers(&e)[..11].iter().filter(|x| x.is_some_and(f64::is_nan)).count();
                assert_eq!(nan, 11, "{name}: {e:?}");
                assert!(e.note.is_some());
            }
        }
    }
    let mut broken = t.clone();
    broken[3].x = f64::NAN;
    for (name, compare) in OF_VALUES.iter().filter(|(n, _)| ["cuped", "lin"].contains(n)) {
        let e = compare(&broken, &c, &Inference::default()).expect("valid summaries");
        assert!(e.estimate.is_some_and(f64::is_nan), "{name}");
        assert!(e.mean_treatment.is_some_and(f64::is_finite), "{name}: means are not adjusted");
    }
}

#[test]
fn values_too_large_to_square_have_an_estimate() {
    let row = |unit, y| Row { unit, y, x: 1.0 + (unit % 3) as f64 };
    let t: Vec<Row> = (0..20).map(|i| row(i, if i < 10 { 1e300 } else { 1e-300 })).collect();
    let c: Vec<Row> = (0..20).map(|i| row(100 + i, if i < 10 { -1e300 } else { 3e300 })).collect();
    for (name, compare) in OF_VALUES
        .iter()
        .filter(|(n, _)| ["welch", "clustered", "percentile", "replicates percentile"].contains(n))
    {
        let e = compare(&t, &c, &Inference::default()).expect("valid summaries");
        assert_eq!((e.estimate, e.relative), (Some(-5e299), Some(-0.5)), "{name}");
        assert!(
            e.std_error.is_some_and(f64::is_nan) && e.p_value.is_some_and(f64::is_nan),
            "{name}"
        );
        assert!(e.note.as_deref().is_some_and(|n| n.contains("too large to square")), "{name}");
    }
}

#[test]
fn a_relative_effect_needs_a_mean_of_control_that_is_not_zero() {
    let row = |unit, y| Row { unit, y, x: 1.0 };
    let t: Vec<Row> = (0..20).map(|i| row(i, 1.0 + (i % 2) as f64)).collect();
    let c: Vec<Row> = (0..20).map(|i| row(100 + i, if i % 2 == 0 { -1.0 } else { 1.0 })).collect();
    for (name, compare) in OF_VALUES {
        let e = compare(&t, &c, &Inference::default()).expect("valid summaries");
        assert!(e.p_value.is_some(), "{name}");
        assert_eq!(numbers(&e)[7..11], [None; 4], "{name}");
        assert!(
            e.note.as_deref().is_some_and(|n| n.contains("control is 0")),
            "{name}: {:?}",
            e.note
        );
    }
}

#[test]
fn a_control_that_may_be_zero_has_no_fieller_interval() {
    let mut draws = Draws(5);
    let (t, c) = (draws.arm(0, 40, 3.0), draws.arm(100, 40, 0.05));
    let e = OF_VALUES[0].1(&t, &c, &Inference::default()).expect("valid summaries");
    assert_eq!((e.relative_ci_lower, e.relative_ci_upper), (None, None));
    assert!(e.relative_std_error.is_some());
    assert!(e.note.as_deref().is_some_and(|n| n.contains("fieller")), "{:?}", e.note);
}

#[test]
fn over_a_negative_control_the_relative_effect_keeps_the_sign_of_the_effect() {
    let mut draws = Draws(6);
    let (t, c) = (draws.arm(0, 60, -8.0), draws.arm(100, 60, -10.0));
    for relative in [Relative::Fieller, Relative::Delta, Relative::Log] {
        for alternative in [Alternative::TwoSided, Alternative::Greater, Alternative::Less] {
            let inference = Inference { relative, alternative, ..Inference::default() };
            for (name, compare) in OF_VALUES.iter().filter(|(n, _)| *n != "ratio") {
                let e = compare(&t, &c, &inference).expect("valid summaries");
                let (low, high) =
                    (e.relative_ci_lower.expect(name), e.relative_ci_upper.expect(name));
                assert!(
                    e.relative > Some(0.0) && Some(low) < e.relative && e.relative < Some(high)
                );
                assert_eq!(low == f64::NEG_INFINITY, alternative == Alternative::Less, "{name}");
                assert_eq!(high == f64::INFINITY, alternative == Alternative::Greater, "{name}");
            }
        }
    }
}

#[test]
fn options_and_summaries_that_do_not_fit_are_errors() {
    let rows = Draws(7).arm(0, 20, 1.0);
    for confidence in [0.0, 1.0, -1.0, f64::NAN] {
        let inference = Inference { confidence, ..Inference::default() };
        for (name, compare) in all() {
            let error = compare(&rows, &rows, &inference).expect_err(name).to_string();
            assert!(error.contains("confidence must be between 0 and 1"), "{error}");
        }
    }
    let inference = Inference::default();
    let (one, two) = (moments(&["y"], 1, &rows), moments(&["y", "d"], 2, &rows));
    let adjusted = moments(&["y", "x"], 1, &rows);
    for error in [
        ttest(&one, &adjusted, &inference, Variance::Unequal),
        clustered_ttest(
            &buckets(&rows, 64, Shape::Mean),
            &buckets(&rows, 64, Shape::Ratio),
            &inference,
            ClusteredStdError::Delta,
        ),
    ] {
        assert!(matches!(error, Err(Error::Mismatch(_))), "{error:?}");
    }
    for error in [
        ttest(&two, &two, &inference, Variance::Unequal),
        ratio_test(&one, &one, &inference),
        cuped(&one, &one, &inference),
        lin(&one, &one, &inference, &LinOptions::default()),
        proportion_test(&one, &one, &inference, ProportionMethod::Wald),
    ] {
        assert!(matches!(error, Err(Error::Invalid(_))), "{error:?}");
    }
    for replicates in [0, 1, MAX_REPLICATES + 1] {
        let options = BootstrapOptions { replicates, ..BootstrapOptions::default() };
        let arm = buckets(&rows, 64, Shape::Mean);
        let error = bootstrap(&arm, &arm, &inference, &options).expect_err("out of range");
        assert!(error.to_string().contains("replicates must be from 2"), "{error}");
    }
}

/// Coverage of intervals within four Monte-Carlo standard errors of the nominal one.
#[test]
fn intervals_cover_the_true_effect() {
    let experiments = 1500;
    let inference = Inference { confidence: 0.9, ..Inference::default() };
    let mut draws = Draws(8);
    let mut covered = vec![0; OF_VALUES.len()];
    for _ in 0..experiments {
        let (t, c) = (draws.arm(0, 60, 1.5), draws.arm(1000, 40, 1.0));
        for (count, (name, compare)) in covered.iter_mut().zip(OF_VALUES) {
            let e = compare(&t, &c, &inference).expect("valid summaries");
            // The ratio of means: the denominator has mean 4.5 in both arms.
            let truth = if name == "ratio" { 0.5 / 4.5 } else { 0.5 };
            *count += i32::from(e.ci_lower < Some(truth) && Some(truth) < e.ci_upper);
        }
    }
    let band = 4.0 * (0.9 * 0.1 / f64::from(experiments)).sqrt();
    for (count, (name, _)) in covered.iter().zip(OF_VALUES) {
        let coverage = f64::from(*count) / f64::from(experiments);
        // The bootstrap's intervals are a little short for 40 units.
        let bootstrap =
            ["percentile", "basic", "normal"].iter().any(|interval| name.ends_with(interval));
        let known = if bootstrap { 0.885 } else { 0.9 };
        assert!((coverage - known).abs() < band, "{name}: {coverage}");
    }
}

#[test]
fn bootstrap_and_analytic_standard_errors_agree() {
    let mut draws = Draws(9);
    let mut skewed = |first: i128, n: i128| -> Vec<Row> {
        // Three rows per unit, which share its level.
        (0..n)
            .flat_map(|i| {
                let level = (0.8 * draws.normal()).exp();
                [0, 1, 2].map(|k| Row {
                    unit: first + i,
                    y: level * (1.0 + f64::from(k)),
                    x: 1.0 + f64::from(k),
                })
            })
            .collect()
    };
    let (t, c) = (skewed(0, 3000), skewed(100_000, 2500));
    // A list of units, and buckets; a mean and a ratio.
    for (count, shape) in [(65536, Shape::Mean), (1024, Shape::Mean), (1024, Shape::Ratio)] {
        let (t, c) = (buckets(&t, count, shape), buckets(&c, count, shape));
        assert_eq!(t.units().is_some(), count == 65536);
        let inference = Inference::default();
        let analytic =
            clustered_ttest(&t, &c, &inference, ClusteredStdError::Delta).expect("valid summaries");
        let options = BootstrapOptions { replicates: 2000, seed: 11, interval: Interval::Normal };
        let boot = bootstrap(&t, &c, &inference, &options).expect("valid summaries");
        assert_eq!(boot.estimate, analytic.estimate);
        assert_eq!(boot.df, Some(f64::INFINITY));
        for (b, a) in [
            (boot.std_error, analytic.std_error),
            (boot.relative_std_error, analytic.relative_std_error),
        ] {
            let ratio = b.expect("defined") / a.expect("defined");
            let band = 4.0 / (2.0 * f64::from(options.replicates)).sqrt();
            assert!((ratio - 1.0).abs() < band, "{count} buckets: {ratio}");
        }
    }
}

/// Rows that share the level of their unit: one to three of a unit, whose level is skewed.
fn clusters(draws: &mut Draws, first: i128, n: i128, factor: f64) -> Vec<Row> {
    (0..n)
        .flat_map(|i| {
            let level = factor * (0.8 * draws.normal()).exp();
            (0..=i % 3)
                .map(|k| Row { unit: first + i, y: level + draws.normal(), x: 1.0 + k as f64 })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The same weights of the same units, with exact sums and with doubles.
#[test]
fn replicates_and_buckets_of_single_units_give_the_same_intervals() {
    let mut draws = Draws(12);
    for (n, m) in [(40, 30), (40, 700), (3000, 2500)] {
        let (t, c) = (clusters(&mut draws, 0, n, 1.1), clusters(&mut draws, 100_000, m, 1.0));
        for shape in [Shape::Mean, Shape::Ratio] {
            for interval in [Interval::Percentile, Interval::Basic, Interval::Normal, Interval::Bca]
            {
                let inference = Inference::default();
                let options = BootstrapOptions { replicates: 333, seed: 5, interval };
                let keyed = Resampling { buckets: Some(65536), ..poisson(333, 5) };
                let of_buckets = bootstrap(
                    &buckets(&t, 65536, shape),
                    &buckets(&c, 65536, shape),
                    &inference,
                    &options,
                );
                let [t, c] = [&t, &c].map(|arm| replicates(arm, shape, keyed));
                assert_eq!(t.units(), Some(n as u64));
                let of_replicates = bootstrap_replicates(&t, &c, &inference, interval);
                let (a, b) = (of_buckets.expect("valid"), of_replicates.expect("valid"));
                assert_eq!((a.estimate, a.mean_control), (b.estimate, b.mean_control));
                assert_eq!(a.rows_treatment, b.rows_treatment);
                for (i, (a, b)) in numbers(&a).into_iter().zip(numbers(&b)).enumerate() {
                    let near = match (a, b) {
                        (Some(a), Some(b)) => a == b || (a - b).abs() <= 1e-11 * a.abs().max(1e-2),
                        (a, b) => a == b,
                    };
                    assert!(near, "{interval:?} {i}: {a:?} and {b:?}");
                }
            }
        }
    }
}

#[test]
fn replicates_of_every_law_have_the_standard_error_of_clusters() {
    let mut draws = Draws(13);
    let (t, c) = (clusters(&mut draws, 0, 6000, 1.0), clusters(&mut draws, 100_000, 5000, 1.0));
    let inference = Inference::default();
    for shape in [Shape::Mean, Shape::Ratio] {
        let of_units = [&t, &c].map(|arm| buckets(arm, 65536, shape));
        let analytic =
            clustered_ttest(&of_units[0], &of_units[1], &inference, ClusteredStdError::Delta)
                .expect("valid");
        let count = 2000;
        for law in Law::ALL {
            let resampling = Resampling { law, ..poisson(count, 17) };
            let [t, c] = [&t, &c].map(|arm| replicates(arm, shape, resampling));
            let boot = bootstrap_replicates(&t, &c, &inference, Interval::Normal).expect("valid");
            assert_eq!(boot.estimate, analytic.estimate);
            for (b, a) in [
                (boot.std_error, analytic.std_error),
                (boot.relative_std_error, analytic.relative_std_error),
            ] {
                let ratio = b.expect("defined") / a.expect("defined");
                let band = 5.0 / (2.0 * f64::from(count)).sqrt();
                assert!((ratio - 1.0).abs() < band, "{law:?}: {ratio}");
            }
        }
    }
}

/// `y = a_i + b_j + e_ij` over a full table of 40 users and 30 titles in an arm: the products of weights give the variances of both
/// factors, three times that of what is left, and a little that the same rows count in both.
#[test]
fn crossed_factors_are_both_resampled() {
    let mut draws = Draws(15);
    let (users, titles, count) = (40, 30, 4000);
    let mut normals = |n: usize| -> Vec<f64> { (0..n).map(|_| draws.normal()).collect() };
    let mut arm = |level: f64| -> (Replicates, f64) {
        let (a, b, e) = (normals(users), normals(titles), normals(users * titles));
        let cells = (0..users * titles).map(|k| (k / titles, k % titles));
        let y: Vec<f64> =
            cells.clone().zip(&e).map(|((i, j), e)| level + a[i] + b[j] + e).collect();
        let pairs: Vec<u128> = cells
            .map(|(i, j)| units::pair(units::integer(i as i128), units::integer(j as i128)))
            .collect();
        let resampling = Resampling { crossed: true, ..poisson(count, 3) };
        let mut table =
            ReplicatesTable::new(Shape::Mean.columns(), resampling).expect("valid resampling");
        table.resize(1);
        let rows = Rows {
            slots: &vec![0; y.len()],
            columns: &[&y],
            missing: &[None],
            units: &pairs,
            ..Rows::default()
        };
        table.update(rows);
        // Owen and Eckles (2012), equation (12) for two factors: sums of squares of residuals of users, titles, cells.
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let residual = |k: usize| y[k] - mean;
        let user: f64 = (0..users)
            .map(|i| (0..titles).map(|j| residual(i * titles + j)).sum::<f64>().powi(2))
            .sum();
        let title: f64 = (0..titles)
            .map(|j| (0..users).map(|i| residual(i * titles + j)).sum::<f64>().powi(2))
            .sum();
        let cell: f64 = (0..y.len()).map(|k| residual(k).powi(2)).sum();
        (table.get(0), (user + title + cell) / (y.len() as f64).powi(2))
    };
    let ((t, v_t), (c, v_c)) = (arm(1.0), arm(0.5));
    let e = bootstrap_replicates(&t, &c, &Inference::default(), Interval::Normal).expect("valid");
    let ratio = e.std_error.expect("defined") / (v_t + v_c).sqrt();
    assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
    assert_eq!((e.n_control, e.method.as_str()), (None, "bootstrap crossed poisson normal"));
    let of_one = Resampling { crossed: false, ..c.resampling() };
    let c = replicates(&[], Shape::Mean, of_one);
    let error = bootstrap_replicates(&t, &c, &Inference::default(), Interval::Normal);
    assert!(error.expect_err("different").to_string().contains("crossed"));
}

/// On rare events many replicates of both arms have none: no difference at all, by sums in doubles as by exact ones.
#[test]
fn replicates_without_events_have_no_difference() {
    let arm = |first: i128, n: i128, events: i128| -> Vec<Row> {
        let y = |i: i128| if i < events { 1.0 } else { 0.0 };
        (0..n).map(|i| Row { unit: first + i, y: y(i), x: 1.0 }).collect()
    };
    let (t, c) = (arm(0, 200, 1), arm(10_000, 1800, 0));
    let options = BootstrapOptions { replicates: 499, seed: 3, ..BootstrapOptions::default() };
    let inference = Inference::default();
    let [of_t, of_c] = [&t, &c].map(|arm| buckets(arm, 4096, Shape::Mean));
    let of_buckets = bootstrap(&of_t, &of_c, &inference, &options).expect("valid");
    let [of_t, of_c] = [&t, &c].map(|arm| replicates(arm, Shape::Mean, poisson(499, 3)));
    let keyed = bootstrap_replicates(&of_t, &of_c, &inference, Interval::Percentile);
    let keyed = keyed.expect("valid");
    for e in [of_buckets, keyed] {
        // A unit is left out of 37 % of the replicates.
        assert_eq!(e.ci_lower, Some(0.0), "{}", e.method);
        assert!(e.p_value.expect("defined") > 0.5, "{}: {:?}", e.method, e.p_value);
    }
}

/// With rows that are units, kept one by one, the bootstrap adjusts as CUPED of moments does.
#[test]
fn the_adjustment_of_units_is_that_of_cuped() {
    let mut draws = Draws(16);
    let (t, c) = (draws.arm(0, 400, 1.1), draws.arm(1000, 300, 1.0));
    let inference = Inference::default();
    let of_moments = |rows: &[Row]| moments(&["y", "x"], 1, rows);
    let expected = cuped(&of_moments(&t), &of_moments(&c), &inference).expect("valid");
    let count = 4000;
    for interval in [Interval::Normal, Interval::Bca] {
        let options = BootstrapOptions { replicates: count, seed: 1, interval };
        let [b_t, b_c] = [&t, &c].map(|arm| buckets(arm, 4096, Shape::Adjusted));
        let of_buckets = bootstrap_cuped(&b_t, &b_c, &inference, &options).expect("valid");
        let resampling = Resampling { buckets: Some(4096), ..poisson(count, 1) };
        let [r_t, r_c] = [&t, &c].map(|arm| replicates(arm, Shape::Adjusted, resampling));
        let keyed = bootstrap_cuped_replicates(&r_t, &r_c, &inference, interval).expect("valid");
        for e in [&of_buckets, &keyed] {
            for (found, expected, tolerance) in [
                (e.estimate, expected.estimate, 1e-12),
                (e.relative, expected.relative, 1e-12),
                (e.variance_reduction, expected.variance_reduction, 1e-12),
                (e.mean_control, expected.mean_control, 1e-15),
                (e.std_error, expected.std_error, 5.0 / (2.0 * f64::from(count)).sqrt()),
            ] {
                let (found, expected) = (found.expect("defined"), expected.expect("defined"));
                assert!((found / expected - 1.0).abs() < tolerance, "{found} and {expected}");
            }
        }
        // The same weights of the same units.
        for (a, b) in numbers(&of_buckets).into_iter().zip(numbers(&keyed)) {
            let near = a.zip(b).map(|(a, b)| a == b || (a - b).abs() < 1e-11 * a.abs().max(1e-2));
            assert_eq!(near.is_some(), a.is_some(), "{a:?} and {b:?}");
            assert!(near != Some(false), "{a:?} and {b:?}");
        }
    }
}

/// Without an effect 5 of 100 tests find one, and rows that count as units would find more.
#[test]
fn replicates_find_no_effect_as_often_as_they_should() {
    let (experiments, inference) = (1000, Inference::default());
    let mut draws = Draws(14);
    let mut found = [0; 2];
    for _ in 0..experiments {
        let mut arm = |first: i128| -> Vec<Row> {
            (0..120)
                .flat_map(|i| {
                    let level = draws.normal();
                    [0, 1, 2, 3].map(|_| Row {
                        unit: first + i,
                        y: level + 0.5 * draws.normal(),
                        x: 1.0,
                    })
                })
                .collect()
        };
        let [t, c] = [arm(0), arm(1000)].map(|arm| replicates(&arm, Shape::Mean, poisson(399, 3)));
        for (found, interval) in found.iter_mut().zip([Interval::Percentile, Interval::Normal]) {
            let e = bootstrap_replicates(&t, &c, &inference, interval).expect("valid");
            *found += i32::from(e.p_value.expect("defined") < 0.05);
        }
    }
    let band = 4.0 * (0.05 * 0.95 / f64::from(experiments)).sqrt();
    for found in found {
        let share = f64::from(found) / f64::from(experiments);
        assert!((share - 0.05).abs() < band, "{share}");
    }
}

/// Five units: e⁻⁵ of the replicates have none of them.
#[test]
fn replicates_that_are_empty_in_an_arm_are_left_out_and_counted() {
    let mut draws = Draws(15);
    let (few, many) = (draws.arm(0, 5, 1.0), draws.arm(100, 200, 1.0));
    let [t, c] = [&few, &many].map(|arm| replicates(arm, Shape::Mean, poisson(2000, 1)));
    let e = bootstrap_replicates(&t, &c, &Inference::default(), Interval::Percentile);
    let e = e.expect("valid summaries");
    let empty = t.totals().rows.iter().filter(|rows| rows.is_zero()).count();
    assert!((1..40).contains(&empty), "{empty}");
    let note = e.note.expect("a note");
    assert!(note.contains(&format!("empty in an arm: {empty} of 2000 replicates")), "{note}");
    assert!(note.contains("units are in replicates and not counted"), "{note}");
    assert!(e.std_error.is_some_and(f64::is_finite) && e.ci_lower.is_some_and(f64::is_finite));
    let fewer = replicates(&few[1..], Shape::Mean, poisson(2000, 1));
    let e = bootstrap_replicates(&fewer, &c, &Inference::default(), Interval::Percentile);
    let e = e.expect("valid summaries");
    assert!(e.estimate.is_some() && e.std_error.is_none() && e.p_value.is_none());
    assert!(e.note.expect("a note").contains("found 4 in treatment and many in control"));
}

#[test]
fn arms_of_different_resampling_are_not_compared() {
    let rows = Draws(16).arm(0, 20, 1.0);
    let arm = replicates(&rows, Shape::Mean, poisson(100, 1));
    for (other, error) in [
        (
            replicates(&rows, Shape::Mean, poisson(101, 1)),
            "found 100 replicates (poisson, seed 1) for treatment and 101",
        ),
        (
            replicates(&rows, Shape::Mean, poisson(100, 2)),
            "and 100 replicates (poisson, seed 2) for control",
        ),
        (
            replicates(&rows, Shape::Ratio, poisson(100, 1)),
            "found (y) for treatment and (y, d) for control",
        ),
    ] {
        let found = bootstrap_replicates(&arm, &other, &Inference::default(), Interval::Basic);
        let found = found.expect_err("different").to_string();
        assert!(found.contains(error), "{found}");
    }
}

#[test]
fn buckets_give_the_standard_error_of_units_without_bias() {
    // Rows are units: over many sets of units the variance from buckets averages to that over units.
    let mut draws = Draws(10);
    let (mut of_units, mut of_buckets) = (0.0, 0.0);
    for set in 0..400 {
        let (t, c) = (draws.arm(set * 1000, 100, 1.0), draws.arm(set * 1000 + 500, 80, 1.0));
        let [fine, coarse] = [4096, 64].map(|count| {
            let (t, c) = (buckets(&t, count, Shape::Mean), buckets(&c, count, Shape::Mean));
            let e = clustered_ttest(&t, &c, &Inference::default(), ClusteredStdError::Delta)
                .expect("valid summaries");
            e.std_error.expect("defined").powi(2)
        });
        of_units += fine;
        of_buckets += coarse;
    }
    // The noise of one ratio of variances is √(Σ 2V²/K)/ΣV, about 0.13.
    assert!((of_buckets / of_units - 1.0).abs() < 4.0 * 0.13 / 20.0, "{}", of_buckets / of_units);
}

#[test]
fn sample_ratio_needs_arms_that_are_expected() {
    let mut counts = Counts::default();
    counts.add("a", 60).expect("few arms");
    counts.add("b", 40).expect("few arms");
    let equal = srm(&counts, None).expect("valid counts");
    assert_eq!((equal.statistic, equal.df, equal.n), (Some(4.0), Some(1), 100));
    // P(|Z| > 2).
    assert!((equal.p_value.expect("defined") - 0.045_500_263_896_358_42).abs() < 1e-16);
    let weights = |pairs: &[(&str, f64)]| pairs.iter().map(|&(a, w)| (a.to_owned(), w)).collect();
    let three = srm(&counts, Some(&weights(&[("a", 1.0), ("b", 1.0), ("c", 2.0)])));
    let three = three.expect("valid weights");
    assert_eq!(three.arms[2], ArmCount { arm: "c".into(), observed: 0, expected: 50.0 });
    assert_eq!(three.df, Some(2));
    let error = srm(&counts, Some(&weights(&[("a", 1.0)]))).expect_err("b is not named");
    assert_eq!(error.to_string(), "expected only the arms 'a', found 'b'");
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = srm(&counts, Some(&weights(&[("a", 1.0), ("b", weight)])));
        assert!(error.expect_err("not positive").to_string().contains("arm 'b'"));
    }
    for undefined in [
        srm(&Counts::default(), None),
        srm(&Counts::default(), Some(&weights(&[("a", 1.0), ("b", 1.0)]))),
        srm(&counts_of("a", 7), None),
    ] {
        let found = undefined.expect("valid counts");
        assert_eq!((found.statistic, found.df, found.p_value), (None, None, None));
    }
}

fn counts_of(arm: &str, rows: u64) -> Counts {
    let mut counts = Counts::default();
    counts.add(arm, rows).expect("one arm");
    counts
}
