//! Bias, coverage and variance reduction of adjusted estimates: experiments whose average effect is 0 in the population that units
//! are drawn from.
#![expect(clippy::print_stdout, reason = "a tool for the command line")]

use gosset_stats::Inference;
use gosset_stats::compare::{
    Caps, LinOptions, LinVcov, PostStratifyOptions, Variance, cuped, cuped_ratio, lin, mlrate,
    post_stratify, ttest, winsorized,
};
use gosset_stats::linear::Vcov;

use crate::models::{lin_robust, of_arm, of_rows, predicted, regression};
use crate::relative;
use crate::simulate::{Coverage, Random, experiments_of, simulate};
use crate::table::{Found, about, head, precision};
use crate::world::{SIZES, Twist, World, grid, is_run};

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
const OTHERS: [&str; 15] = [
    "post_stratify",
    "post_stratify superpopulation",
    "post_stratify superpopulation, with covariates",
    "winsorized, capped effect",
    "winsorized, effect",
    "mlrate, cross-fitted",
    "mlrate, not cross-fitted",
    "lin HC0",
    "lin HC1",
    "lin HC2",
    "lin HC3",
    "ols HC1",
    "ols HC3",
    "ols_clustered, rows",
    "ols classical, rows",
];
const TWISTS: [(Twist, &[f64]); 4] = [
    (Twist::None, &[0.0, 0.5, 0.95]),
    (Twist::Heterogeneous, &[0.8]),
    (Twist::Outliers, &[0.8]),
    (Twist::Eight, &[0.8]),
];

/// Prints the tables, or one of the three alone.
pub(crate) fn tables(experiments: usize, largest: usize, only: usize) {
    let tables = [table_of_covariates, table_of_others, relative::table];
    for (i, table) in tables.into_iter().enumerate() {
        if only == 0 || only == i + 1 {
            table(experiments, largest);
        }
    }
}

fn table_of_covariates(experiments: usize, largest: usize) {
    println!(
        "Coverage of 95 % intervals in %, of {}. The average effect is 0. \"Bias\" is the mean of the estimates in its standard errors, \
         \"reduction\" the mean `variance_reduction` in %, both for `cuped` and `lin`. The correlation is that of the covariate with the normal variable that the outcome is made of.\n",
        precision(experiments)
    );
    head(&COVARIATES, &["bias", "reduction"]);
    let of_a_million = |world: World| world.correlation > 0.9;
    for (world, sizes) in grid(&TWISTS, &SIZES) {
        if is_run(world, sizes, largest, of_a_million) {
            let found = with_covariates(experiments, world, sizes);
            let others =
                [found.of(&[1, 2], Coverage::bias), found.of(&[1, 2], Coverage::reduction)];
            found.print(world, sizes, &others);
        }
    }
}

fn table_of_others(experiments: usize, largest: usize) {
    println!(
        "\nOthers, likewise. Strata are fifths of the first covariate. Caps are at the 0.99 quantile of both arms, and the interval of `winsorized` \
         is held against the effect on the capped outcome, and against the effect. Predictions are by least squares on the covariates, cut off at ±3, and their squares: made for one half of the units by the other half, or by all \
         units. `lin` with HC0 to HC3 is over a superpopulation. `ols` is on arm and covariates. \"Rows\" are 1 to 5 of each unit, clustered by unit or taken as independent. \"–\": it has more than `max_rows` distinct rows. \"Bias\" is that of `post_stratify`, of `winsorized` against the effect, of `mlrate` cross-fitted and of \
         `ols`, \"reduction\" that of the first three.\n",
    );
    head(&OTHERS, &["bias", "reduction"]);
    let sizes =
        [(25, 25), (200, 200), (200, 1800), (2000, 2000), (20_000, 20_000), (500_000, 500_000)];
    let of_a_million =
        |world: World| world.correlation > 0.9 || world.twist == Twist::Heterogeneous;
    for (world, sizes) in grid(&TWISTS, &sizes) {
        if is_run(world, sizes, largest, of_a_million) {
            let found = others(experiments, world, sizes);
            let others = [
                found.of(&[0, 4, 5, 11], Coverage::bias),
                found.of(&[0, 4, 5], Coverage::reduction),
            ];
            found.print(world, sizes, &others);
        }
    }
}

fn with_covariates(experiments: usize, world: World, sizes: (usize, usize)) -> Found<7> {
    let experiments = experiments_of(experiments, sizes.0 + sizes.1);
    let coverage = simulate(experiments, |experiment| {
        let [t, c] = world.arms(sizes, experiment, true);
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

fn others(experiments: usize, world: World, sizes: (usize, usize)) -> Found<15> {
    let experiments = experiments_of(experiments, sizes.0 + sizes.1);
    let capped = world.capped_effect(sizes.0 as f64 / (sizes.0 + sizes.1) as f64);
    let coverage = simulate(experiments, |experiment| {
        let [t, c] = world.arms(sizes, experiment, false);
        let inference = Inference::default();
        let strata = [t.stratified(&t.x), c.stratified(&c.x)];
        let alone = [t.stratified(&[]), c.stratified(&[])];
        let stratified = |[t, c]: &[_; 2], superpopulation| {
            let options = PostStratifyOptions { superpopulation, ..PostStratifyOptions::default() };
            post_stratify(t, c, &inference, &options).ok()
        };
        let winsorized = winsorized(&t.binned(), &c.binned(), &inference, &Caps::default()).ok();
        let [cross_fitted, seen] = predicted(&t, &c, &inference);
        let moments = [t.moments(&t.x), c.moments(&c.x)];
        let lin = |vcov| lin_robust((&t, &moments[0]), (&c, &moments[1]), &inference, vcov);
        let regression = regression(&t, &c);
        let [clustered, independent] = of_rows(&mut Random(!(experiment as u64) << 24), &t, &c);
        [
            stratified(&alone, false),
            stratified(&alone, true),
            stratified(&strata, true),
            winsorized.clone().map(|effect| about(effect, capped)),
            winsorized,
            cross_fitted,
            seen,
            lin(Vcov::Hc0),
            lin(Vcov::Hc1),
            lin(Vcov::Hc2),
            lin(Vcov::Hc3),
            of_arm(&regression, Vcov::Hc1),
            of_arm(&regression, Vcov::Hc3),
            of_arm(&clustered, Vcov::Cr1),
            of_arm(&independent, Vcov::Classical),
        ]
    });
    Found { experiments, coverage }
}
