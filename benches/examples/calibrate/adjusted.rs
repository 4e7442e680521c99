//! Bias, coverage and variance reduction of adjusted estimates: experiments whose average effect is 0 in the population that units
//! are drawn from.

use gosset_stats::Inference;
use gosset_stats::compare::{
    LinOptions, LinVcov, Variance, cuped, cuped_ratio, lin, mlrate, ttest,
};
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{Moments, MomentsTable, Rows, Strata, Table};

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

/// An arm: the outcome, the same with covariates, and as a ratio with the ratio before.
fn arm(
    random: &mut Random,
    (shape, twist): (Shape, Twist),
    correlation: f64,
    n: usize,
    treated: bool,
) -> [Moments; 3] {
    let k = twist.covariates();
    let mut columns = vec![Vec::new(); 1 + k];
    let mut ratio = vec![Vec::new(); 4];
    for _ in 0..n {
        let z = random.normal();
        let latent = correlation * z + (1.0 - correlation * correlation).sqrt() * random.normal();
        let mut y = shape.outcome(latent, random);
        if treated && twist == Twist::Heterogeneous {
            y += z;
        }
        let x = if twist == Twist::Outliers && random.uniform() < 0.001 { 100.0 * z } else { z };
        columns[0].push(y);
        columns[1].push(x);
        for column in &mut columns[2..] {
            column.push(random.normal());
        }
        let (d, d_before) =
            (1.0 + (5.0 * random.uniform()).floor(), (6.0 * random.uniform()).floor());
        let row = [y * d, d, (10.0 + z + 0.3 * random.normal()) * d_before, d_before];
        ratio.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    let names = (1..=k).map(|i| format!("x{i}"));
    let names = Columns::new(["y".to_owned()].into_iter().chain(names), 1).expect("valid columns");
    let of_ratio = ["y", "d", "x numerator", "x denominator"].map(String::from);
    let of_ratio = Columns::new(of_ratio, 2).expect("valid columns");
    let alone = Columns::new(["y".to_owned()], 1).expect("a valid column");
    [moments(alone, &columns[..1]), moments(names, &columns), moments(of_ratio, &ratio)]
}

fn moments(names: Columns, columns: &[Vec<f64>]) -> Moments {
    let mut table = MomentsTable::new(names);
    table.resize(1);
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let missing = vec![None; columns.len()];
    let slots = vec![0; columns[0].len()];
    table.update(Rows {
        slots: &slots,
        columns: &columns,
        missing: &missing,
        units: &[],
        strata: Strata::default(),
    });
    table.get(0)
}

/// Prints the table.
pub(crate) fn table(experiments: usize, largest: usize) {
    println!(
        "Coverage of 95 % intervals in %, of {experiments} experiments (fewer of the largest) whose average effect is 0: one standard error is {:.1}. \"Bias\" is the mean of the estimates in its standard errors, for `cuped` and `lin`; \
         \"reduction\" the mean `variance_reduction` of both, in %. The correlation is that of the covariate with the normal variable that the outcome is made of.\n",
        100.0 * (0.95f64 * 0.05 / experiments as f64).sqrt()
    );
    println!(
        "| outcome | correlation | units | | ttest | cuped | lin by_arm | lin classical | lin superpopulation | mlrate | cuped_ratio | bias | reduction |"
    );
    println!("|{}", " --- |".repeat(13));
    let sizes = [
        (25, 25),
        (50, 50),
        (200, 200),
        (200, 1800),
        (2000, 2000),
        (20_000, 20_000),
        (500_000, 500_000),
    ];
    for shape in [Shape::Normal, Shape::Lognormal, Shape::ZeroInflated, Shape::Binary] {
        for twist in [Twist::None, Twist::Heterogeneous, Twist::Outliers, Twist::Eight] {
            let correlations: &[f64] = match twist {
                Twist::None => &[0.0, 0.5, 0.95],
                _ => &[0.8],
            };
            for &correlation in correlations {
                for (n_t, n_c) in sizes.into_iter().filter(|(t, c)| (*t).max(*c) <= largest) {
                    if twist == Twist::Eight && n_t > 2000 || n_t > 20_000 && correlation < 0.9 {
                        continue;
                    }
                    row(experiments, (shape, twist), correlation, (n_t, n_c));
                }
            }
        }
    }
}

fn row(
    experiments: usize,
    (shape, twist): (Shape, Twist),
    correlation: f64,
    (n_t, n_c): (usize, usize),
) {
    let experiments = experiments_of(experiments, n_t + n_c);
    let coverage = simulate(experiments, |experiment| {
        let mut random = Random((1 + experiment as u64) << 24 | (n_t + n_c) as u64);
        let [y_t, t, ratio_t] = arm(&mut random, (shape, twist), correlation, n_t, true);
        let [y_c, c, ratio_c] = arm(&mut random, (shape, twist), correlation, n_c, false);
        let inference = Inference::default();
        let lin_of = |vcov, superpopulation| {
            lin(&t, &c, &inference, &LinOptions { vcov, superpopulation }).ok()
        };
        [
            ttest(&y_t, &y_c, &inference, Variance::Unequal).ok(),
            cuped(&t, &c, &inference).ok(),
            lin_of(LinVcov::ByArm, false),
            lin_of(LinVcov::Classical, false),
            lin_of(LinVcov::ByArm, true),
            mlrate(&t, &c, &inference).ok(),
            cuped_ratio(&ratio_t, &ratio_c, &inference).ok(),
        ]
    });
    let cells: Vec<String> = coverage.iter().map(|c| c.shown(experiments)).collect();
    let both = |of: fn(Coverage, usize) -> String| {
        format!("{} / {}", of(coverage[1], experiments), of(coverage[2], experiments))
    };
    let row = format!(
        "| {} | {correlation} | {n_t} / {n_c} | {} | {} | {} | {} |",
        shape.name(),
        twist.name(),
        cells.join(" | "),
        both(Coverage::bias),
        both(Coverage::reduction),
    );
    println!("{row}");
    eprintln!("{row}");
}
