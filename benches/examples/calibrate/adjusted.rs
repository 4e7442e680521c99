//! Bias, coverage and variance reduction of adjusted estimates: experiments whose average effect is 0 in the population that units
//! are drawn from.

use gosset_stats::compare::{
    Caps, LinOptions, LinVcov, PostStratifyOptions, Variance, cuped, cuped_ratio, lin, mlrate,
    post_stratify, ttest, winsorized,
};
use gosset_stats::linear::{LinearOptions, Vcov, ols};
use gosset_stats::summary::gram::DEFAULT_MAX_ROWS;
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{
    BinnedTable, Gram, GramColumns, GramRows, GramTable, Moments, MomentsTable, Regressor,
    RegressorKind, Rows, Strata, StratifiedTable, Table,
};
use gosset_stats::{Effect, Inference, Summary, units};

use crate::simulate::{Coverage, Random, experiments_of, simulate};

/// What makes the outcome of what is known before and of chance.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Normal,
    Lognormal,
    ZeroInflated,
    Binary,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Lognormal => "lognormal",
            Self::ZeroInflated => "90 % zeros, else lognormal",
            Self::Binary => "0 or 1, a fifth of them 1",
        }
    }

    fn outcome(self, latent: f64, random: &mut Random) -> f64 {
        match self {
            Self::Normal => 10.0 + latent,
            Self::Lognormal => latent.exp(),
            Self::ZeroInflated if random.uniform() < 0.9 => 0.0,
            Self::ZeroInflated => latent.exp(),
            Self::Binary => f64::from(u8::from(latent > 0.841_621)),
        }
    }
}

/// What is special about an experiment.
#[derive(Clone, Copy, PartialEq)]
enum Twist {
    None,
    /// The effect is the first covariate, which is 0 on average.
    Heterogeneous,
    /// One covariate in a thousand is a hundred times as large.
    Outliers,
    /// Eight covariates, of which one tells something.
    Eight,
}

impl Twist {
    fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Heterogeneous => "effects differ",
            Self::Outliers => "outliers in x",
            Self::Eight => "8 covariates",
        }
    }

    fn covariates(self) -> usize {
        if self == Self::Eight { 8 } else { 1 }
    }
}

/// What units are drawn from.
#[derive(Clone, Copy)]
struct World {
    shape: Shape,
    twist: Twist,
    correlation: f64,
}

impl World {
    /// What is known of a unit before, and its outcome.
    fn unit(self, random: &mut Random, treated: bool) -> (f64, f64) {
        let z = random.normal();
        let rest = (1.0 - self.correlation * self.correlation).sqrt();
        let latent = self.correlation * z + rest * random.normal();
        let y = self.shape.outcome(latent, random);
        (z, if treated && self.twist == Twist::Heterogeneous { y + z } else { y })
    }

    fn arm(self, random: &mut Random, n: usize, treated: bool) -> Arm {
        let mut arm = Arm {
            treated,
            y: Vec::with_capacity(n),
            x: vec![Vec::new(); self.twist.covariates()],
            ratio: vec![Vec::new(); 4],
        };
        for _ in 0..n {
            let (z, y) = self.unit(random, treated);
            let outlier = self.twist == Twist::Outliers && random.uniform() < 0.001;
            arm.y.push(y);
            arm.x[0].push(if outlier { 100.0 * z } else { z });
            for column in &mut arm.x[1..] {
                column.push(random.normal());
            }
            let (d, d_before) =
                (1.0 + (5.0 * random.uniform()).floor(), (6.0 * random.uniform()).floor());
            let row = [y * d, d, (10.0 + z + 0.3 * random.normal()) * d_before, d_before];
            arm.ratio.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        arm
    }

    /// The effect on the outcome capped at the 0.99 quantile of the population of both arms, of which a share is treated.
    fn capped_effect(self, treated: f64) -> f64 {
        if self.twist != Twist::Heterogeneous {
            return 0.0;
        }
        const UNITS: usize = 2_000_000;
        let mut random = Random(1 << 60);
        let mut draw = |treated: bool, share: f64| -> Vec<f64> {
            let units = (share * UNITS as f64) as usize;
            (0..units).map(|_| self.unit(&mut random, treated).1).collect()
        };
        let (t, c) = (draw(true, treated), draw(false, 1.0 - treated));
        let mut pooled = [&t[..], &c[..]].concat();
        let (_, &mut cap, _) = pooled.select_nth_unstable_by(UNITS / 100 * 99, f64::total_cmp);
        // Both arms of the same units: what varies is the effect alone.
        let mut random = Random(1 << 61);
        let change = |random: &mut Random| {
            let before = random.0;
            let y = self.unit(random, true).1.min(cap);
            random.0 = before;
            y - self.unit(random, false).1.min(cap)
        };
        (0..UNITS).map(|_| change(&mut random)).sum::<f64>() / UNITS as f64
    }
}

/// The units of an arm.
struct Arm {
    treated: bool,
    y: Vec<f64>,
    x: Vec<Vec<f64>>,
    /// A ratio and the same before: numerators and denominators.
    ratio: Vec<Vec<f64>>,
}

impl Arm {
    /// The moments of the outcome and covariates.
    fn moments(&self, covariates: &[Vec<f64>]) -> Moments {
        let columns: Vec<&[f64]> =
            [&self.y].into_iter().chain(covariates).map(|c| &c[..]).collect();
        filled(MomentsTable::new(named(columns.len(), 1)), &columns, Strata::default())
    }

    fn of_ratio(&self) -> Moments {
        let columns: Vec<&[f64]> = self.ratio.iter().map(Vec::as_slice).collect();
        let names = ["y", "d", "x numerator", "x denominator"].map(String::from);
        let names = Columns::new(names, 2).expect("valid columns");
        filled(MomentsTable::new(names), &columns, Strata::default())
    }

    /// The moments by fifths of the first covariate.
    fn stratified(&self) -> gosset_stats::summary::StratifiedMoments {
        const FIFTHS: [f64; 4] = [-0.841_621, -0.253_347, 0.253_347, 0.841_621];
        let labels: Vec<Option<String>> = (0..5).map(|fifth| Some(fifth.to_string())).collect();
        let of: Vec<u32> = self.x[0]
            .iter()
            .map(|&x| FIFTHS.iter().filter(|&&end| x > end).count() as u32)
            .collect();
        let strata = Strata { labels: &labels, of: &of };
        filled(StratifiedTable::new(named(1, 1)), &[&self.y], strata)
    }

    fn binned(&self) -> gosset_stats::summary::BinnedMoments {
        let table = BinnedTable::new(named(1, 1), 0.001).expect("a valid precision");
        filled(table, &[&self.y], Strata::default())
    }

    /// What a model predicts the outcome by: the covariates, cut off at ±3, and their squares.
    fn features(&self) -> Vec<Vec<f64>> {
        let cut = |x: &Vec<f64>| x.iter().map(|x| x.clamp(-3.0, 3.0)).collect();
        let cut: Vec<Vec<f64>> = self.x.iter().map(cut).collect();
        let squares = cut.iter().map(|x| x.iter().map(|x| x * x).collect());
        cut.iter().cloned().chain(squares).collect()
    }
}

/// Columns `y`, `x1`, `x2`, ...
fn named(columns: usize, outcomes: usize) -> Columns {
    let names = (1..columns).map(|i| format!("x{i}"));
    Columns::new(["y".to_owned()].into_iter().chain(names), outcomes).expect("valid columns")
}

fn filled<T: Table>(mut table: T, columns: &[&[f64]], strata: Strata<'_>) -> T::Summary {
    table.resize(1);
    let missing = vec![None; columns.len()];
    let slots = vec![0; columns[0].len()];
    table.update(Rows { slots: &slots, columns, missing: &missing, units: &[], strata });
    table.get(0)
}

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
fn regression(t: &Arm, c: &Arm) -> Gram {
    let both = |of: fn(&Arm, usize) -> &Vec<f64>, i| [&of(t, i)[..], &of(c, i)[..]].concat();
    let arm: Vec<f64> =
        [t, c].iter().flat_map(|arm| vec![f64::from(u8::from(arm.treated)); arm.y.len()]).collect();
    let x: Vec<Vec<f64>> = (0..t.x.len()).map(|i| both(|arm, i| &arm.x[i], i)).collect();
    let numbers: Vec<&[f64]> = [&arm].into_iter().chain(&x).map(|column| &column[..]).collect();
    gram(&both(|arm, _| &arm.y, 0), &numbers, None, DEFAULT_MAX_ROWS)
}

/// The same of 1 to 5 rows of each unit, which differ from the unit by noise of their own; by the unit where it is asked for.
fn of_rows(random: &mut Random, t: &Arm, c: &Arm, clustered: bool) -> Gram {
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
    gram(&y, &numbers, clustered.then_some(&clusters), DEFAULT_MAX_ROWS)
}

/// The effect of the arm, the first of the regressors.
fn of_arm(gram: &Gram, vcov: Vcov) -> Option<Effect> {
    let fit = ols(gram, &LinearOptions { vcov: Some(vcov), ..LinearOptions::default() }).ok()?;
    let arm = fit.coefficients.get(1)?.estimate;
    let (estimate, std_error, p_value) = (arm.estimate, arm.std_error, arm.p_value);
    let (ci_lower, ci_upper) = (arm.ci_lower, arm.ci_upper);
    Some(Effect { estimate, std_error, p_value, ci_lower, ci_upper, ..Effect::default() })
}

/// The effects with predictions by a linear model of the features: made for each half of the units by the model of the other,
/// and by the model of all units, which has seen the outcomes that it predicts.
fn predicted(t: &Arm, c: &Arm, inference: &Inference) -> [Option<Effect>; 2] {
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

/// An effect as its distance from another than 0.
fn about(effect: Effect, truth: f64) -> Effect {
    let less = |x: Option<f64>| x.map(|x| x - truth);
    let (estimate, ci_lower, ci_upper) =
        (less(effect.estimate), less(effect.ci_lower), less(effect.ci_upper));
    Effect { estimate, ci_lower, ci_upper, ..effect }
}

/// The columns of the tables.
const COVARIATES: [&str; 7] = [
    "ttest",
    "cuped",
    "lin by_arm",
    "lin classical",
    "lin superpopulation",
    "mlrate",
    "cuped_ratio",
];
const OTHERS: [&str; 10] = [
    "post_stratify",
    "post_stratify superpopulation",
    "winsorized, capped effect",
    "winsorized, effect",
    "mlrate, cross-fitted",
    "mlrate, not cross-fitted",
    "ols HC1",
    "ols HC3",
    "ols_clustered, rows",
    "ols HC1, rows",
];

/// Prints the tables, or the second alone.
pub(crate) fn tables(experiments: usize, largest: usize, first: usize) {
    if first == 0 {
        table_of_covariates(experiments, largest);
    }
    table_of_others(experiments * 2 / 5, largest);
}

fn table_of_covariates(experiments: usize, largest: usize) {
    println!(
        "Coverage of 95 % intervals in %, of {experiments} experiments (fewer of the largest) whose average effect is 0: one standard error is {:.1}, \
         and what is beyond three of them is **bold**. \"Bias\" is the mean of the estimates in its standard errors, \
         \"reduction\" the mean `variance_reduction` in %, both for `cuped` and `lin`. The correlation is that of the covariate with the normal variable that the outcome is made of.\n",
        100.0 * (0.95f64 * 0.05 / experiments as f64).sqrt()
    );
    head(&COVARIATES);
    let sizes = [
        (25, 25),
        (50, 50),
        (200, 200),
        (200, 1800),
        (2000, 2000),
        (20_000, 20_000),
        (500_000, 500_000),
    ];
    for (world, (n_t, n_c)) in grid(&[0.0, 0.5, 0.95], &sizes) {
        let too_long = world.twist == Twist::Eight && n_t > 2000;
        if too_long || n_t.max(n_c) > largest || n_t > 20_000 && world.correlation < 0.9 {
            continue;
        }
        let found = with_covariates(experiments, world, (n_t, n_c));
        found.print(world, (n_t, n_c), &[1, 2], &[1, 2]);
    }
}

/// Of fewer and smaller experiments, since they take longer.
fn table_of_others(experiments: usize, largest: usize) {
    println!(
        "\nOthers, of {experiments} experiments of the same kind: one standard error is {:.1}. Strata are fifths of the first covariate. Caps are at the 0.99 quantile of both arms, and the interval of `winsorized` \
         is held against the effect on the capped outcome, and against the effect. Predictions are by least squares on the covariates, cut off at ±3, and their squares: made for one half of the units by the other half, or by all \
         units. `ols` is on arm and covariates. \"Rows\" are 1 to 5 of each unit, clustered by unit or taken as independent. \"Bias\" is that of `post_stratify`, of `winsorized` against the effect, of `mlrate` cross-fitted and of \
         `ols`, \"reduction\" that of the first three.\n",
        100.0 * (0.95f64 * 0.05 / experiments as f64).sqrt()
    );
    head(&OTHERS);
    for (world, sizes) in grid(&[0.5], &[(25, 25), (200, 200), (200, 1800), (2000, 2000)]) {
        if sizes.0.max(sizes.1) <= largest {
            others(experiments, world, sizes).print(world, sizes, &[0, 3, 4, 6], &[0, 3, 4]);
        }
    }
}

/// The experiments of a table.
fn grid<'a>(
    correlations: &'a [f64],
    sizes: &'a [(usize, usize)],
) -> impl Iterator<Item = (World, (usize, usize))> + 'a {
    let shapes = [Shape::Normal, Shape::Lognormal, Shape::ZeroInflated, Shape::Binary];
    let twists = [Twist::None, Twist::Heterogeneous, Twist::Outliers, Twist::Eight];
    let worlds = shapes.into_iter().flat_map(move |shape| {
        twists.into_iter().flat_map(move |twist| {
            let correlations = if twist == Twist::None { correlations } else { &[0.8] };
            correlations.iter().map(move |&correlation| World { shape, twist, correlation })
        })
    });
    worlds.flat_map(|world| sizes.iter().map(move |&sizes| (world, sizes)))
}

fn head(estimators: &[&str]) {
    println!("| outcome | correlation | units | | {} | bias | reduction |", estimators.join(" | "));
    println!("|{}", " --- |".repeat(4 + estimators.len() + 2));
}

/// What came out of the experiments of a row.
struct Found<const N: usize> {
    experiments: usize,
    coverage: [Coverage; N],
}

impl<const N: usize> Found<N> {
    /// Prints the row, with the bias and the reduction of some of the estimators.
    fn print(&self, world: World, (n_t, n_c): (usize, usize), biased: &[usize], reduced: &[usize]) {
        let listed = |of: &[usize], shown: fn(Coverage, usize) -> String| {
            let shown = of.iter().map(|&i| shown(self.coverage[i], self.experiments));
            shown.collect::<Vec<_>>().join(" / ")
        };
        let cells = self.coverage.iter().map(|c| c.marked(self.experiments));
        let row = format!(
            "| {} | {} | {n_t} / {n_c} | {} | {} | {} | {} |",
            world.shape.name(),
            world.correlation,
            world.twist.name(),
            cells.collect::<Vec<_>>().join(" | "),
            listed(biased, Coverage::bias),
            listed(reduced, Coverage::reduction),
        );
        println!("{row}");
        eprintln!("{row}");
    }
}

/// The arms of an experiment.
fn arms(world: World, (n_t, n_c): (usize, usize), experiment: usize) -> [Arm; 2] {
    let mut random = Random((1 + experiment as u64) << 24 | (n_t + n_c) as u64);
    [world.arm(&mut random, n_t, true), world.arm(&mut random, n_c, false)]
}

fn with_covariates(experiments: usize, world: World, sizes: (usize, usize)) -> Found<7> {
    let experiments = experiments_of(experiments, sizes.0 + sizes.1);
    let coverage = simulate(experiments, |experiment| {
        let [t, c] = arms(world, sizes, experiment);
        let inference = Inference::default();
        let moments = [t.moments(&t.x), c.moments(&c.x)];
        let lin_of = |vcov, superpopulation| {
            lin(&moments[0], &moments[1], &inference, &LinOptions { vcov, superpopulation }).ok()
        };
        [
            ttest(&t.moments(&[]), &c.moments(&[]), &inference, Variance::Unequal).ok(),
            cuped(&moments[0], &moments[1], &inference).ok(),
            lin_of(LinVcov::ByArm, false),
            lin_of(LinVcov::Classical, false),
            lin_of(LinVcov::ByArm, true),
            mlrate(&moments[0], &moments[1], &inference).ok(),
            cuped_ratio(&t.of_ratio(), &c.of_ratio(), &inference).ok(),
        ]
    });
    Found { experiments, coverage }
}

fn others(experiments: usize, world: World, sizes: (usize, usize)) -> Found<10> {
    let capped = world.capped_effect(sizes.0 as f64 / (sizes.0 + sizes.1) as f64);
    let coverage = simulate(experiments, |experiment| {
        let [t, c] = arms(world, sizes, experiment);
        let inference = Inference::default();
        let strata = [t.stratified(), c.stratified()];
        let stratified = |superpopulation| {
            let options = PostStratifyOptions { superpopulation, ..PostStratifyOptions::default() };
            post_stratify(&strata[0], &strata[1], &inference, &options).ok()
        };
        let winsorized = winsorized(&t.binned(), &c.binned(), &inference, &Caps::default()).ok();
        let [cross_fitted, seen] = predicted(&t, &c, &inference);
        let regression = regression(&t, &c);
        let of_rows =
            |clustered| of_rows(&mut Random(!(experiment as u64) << 24), &t, &c, clustered);
        [
            stratified(false),
            stratified(true),
            winsorized.clone().map(|effect| about(effect, capped)),
            winsorized,
            cross_fitted,
            seen,
            of_arm(&regression, Vcov::Hc1),
            of_arm(&regression, Vcov::Hc3),
            of_arm(&of_rows(true), Vcov::Cr1),
            of_arm(&of_rows(false), Vcov::Hc1),
        ]
    });
    Found { experiments, coverage }
}
