//! Experiments to simulate: what units are drawn from, and the summaries of arms.

use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{
    BinnedMoments, BinnedTable, Moments, MomentsTable, Rows, Strata, StratifiedMoments,
    StratifiedTable, Table,
};

use crate::simulate::Random;

/// Units of both arms, from few to a million together.
pub(crate) const SIZES: [(usize, usize); 7] = [
    (25, 25),
    (50, 50),
    (200, 200),
    (200, 1800),
    (2000, 2000),
    (20_000, 20_000),
    (500_000, 500_000),
];

/// What makes the outcome of what is known before and of chance.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Normal,
    Lognormal,
    ZeroInflated,
    Binary,
}

impl Shape {
    pub(crate) const ALL: [Self; 4] =
        [Self::Normal, Self::Lognormal, Self::ZeroInflated, Self::Binary];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Lognormal => "lognormal",
            Self::ZeroInflated => "90 % zeros, else lognormal",
            Self::Binary => "0 or 1, a fifth of them 1",
        }
    }

    /// The mean of the outcome.
    pub(crate) fn mean(self) -> f64 {
        match self {
            Self::Normal => 10.0,
            Self::Lognormal => 0.5f64.exp(),
            Self::ZeroInflated => 0.1 * 0.5f64.exp(),
            Self::Binary => 0.2,
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
pub(crate) enum Twist {
    None,
    /// The effect is the first covariate, which is 0 on average.
    Heterogeneous,
    /// One covariate in a thousand is a hundred times as large.
    Outliers,
    /// Eight covariates, of which one tells something.
    Eight,
    /// The treatment makes the outcome a fifth larger, or more often 1 by a fifth.
    Larger,
}

impl Twist {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Heterogeneous => "effects differ",
            Self::Outliers => "outliers in x",
            Self::Eight => "8 covariates",
            Self::Larger => "a fifth more",
        }
    }

    fn covariates(self) -> usize {
        if self == Self::Eight { 8 } else { 1 }
    }
}

/// What units are drawn from.
#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) twist: Twist,
    pub(crate) correlation: f64,
}

impl World {
    /// What is known of a unit before, and its outcome.
    fn unit(self, random: &mut Random, treated: bool) -> (f64, f64) {
        let z = random.normal();
        let rest = (1.0 - self.correlation * self.correlation).sqrt();
        let latent = self.correlation * z + rest * random.normal();
        let y = self.shape.outcome(latent, random);
        let y = match (self.twist, self.shape) {
            (Twist::Heterogeneous, _) if treated => y + z,
            (Twist::Larger, Shape::Binary) if treated => f64::from(u8::from(latent > 0.706_303)),
            (Twist::Larger, _) if treated => 1.2 * y,
            _ => y,
        };
        (z, y)
    }

    /// The arms of an experiment, with the columns of a ratio where they are asked for.
    pub(crate) fn arms(
        self,
        (n_t, n_c): (usize, usize),
        experiment: usize,
        ratio: bool,
    ) -> [Arm; 2] {
        let mut random = Random((1 + experiment as u64) << 24 | (n_t + n_c) as u64);
        [self.arm(&mut random, n_t, true, ratio), self.arm(&mut random, n_c, false, ratio)]
    }

    fn arm(self, random: &mut Random, n: usize, treated: bool, ratio: bool) -> Arm {
        let mut arm = Arm {
            treated,
            y: Vec::with_capacity(n),
            x: vec![Vec::new(); self.twist.covariates()],
            ratio: vec![Vec::new(); if ratio { 4 } else { 0 }],
        };
        for _ in 0..n {
            let (z, y) = self.unit(random, treated);
            let outlier = self.twist == Twist::Outliers && random.uniform() < 0.001;
            arm.y.push(y);
            arm.x[0].push(if outlier { 100.0 * z } else { z });
            for column in &mut arm.x[1..] {
                column.push(random.normal());
            }
            if !ratio {
                continue;
            }
            let (d, d_before) =
                (1.0 + (5.0 * random.uniform()).floor(), (6.0 * random.uniform()).floor());
            let row = [y * d, d, (10.0 + z + 0.3 * random.normal()) * d_before, d_before];
            arm.ratio.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        arm
    }

    /// The effect on the outcome capped at the 0.99 quantile of the population of both arms, of which a share is treated.
    pub(crate) fn capped_effect(self, treated: f64) -> f64 {
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
pub(crate) struct Arm {
    pub(crate) treated: bool,
    pub(crate) y: Vec<f64>,
    pub(crate) x: Vec<Vec<f64>>,
    /// A ratio and the same before: numerators and denominators.
    ratio: Vec<Vec<f64>>,
}

impl Arm {
    /// The moments of the outcome and covariates.
    pub(crate) fn moments(&self, covariates: &[Vec<f64>]) -> Moments {
        let columns = self.columns(covariates);
        filled(MomentsTable::new(named(columns.len(), 1)), &columns, Strata::default())
    }

    fn columns<'a>(&'a self, covariates: &'a [Vec<f64>]) -> Vec<&'a [f64]> {
        [&self.y].into_iter().chain(covariates).map(Vec::as_slice).collect()
    }

    pub(crate) fn of_ratio(&self) -> Moments {
        let columns: Vec<&[f64]> = self.ratio.iter().map(Vec::as_slice).collect();
        let names = ["y", "d", "x numerator", "x denominator"].map(String::from);
        let names = Columns::new(names, 2).expect("valid columns");
        filled(MomentsTable::new(names), &columns, Strata::default())
    }

    /// The moments of the outcome and covariates by fifths of the first covariate.
    pub(crate) fn stratified(&self, covariates: &[Vec<f64>]) -> StratifiedMoments {
        const FIFTHS: [f64; 4] = [-0.841_621, -0.253_347, 0.253_347, 0.841_621];
        let labels: Vec<Option<String>> = (0..5).map(|fifth| Some(fifth.to_string())).collect();
        let fifth = |&x: &f64| FIFTHS.iter().filter(|&&end| x > end).count() as u32;
        let of: Vec<u32> = self.x[0].iter().map(fifth).collect();
        let strata = Strata { labels: &labels, of: &of };
        let columns = self.columns(covariates);
        filled(StratifiedTable::new(named(columns.len(), 1)), &columns, strata)
    }

    pub(crate) fn binned(&self) -> BinnedMoments {
        let table = BinnedTable::new(named(1, 1), 0.001).expect("a valid precision");
        filled(table, &[&self.y], Strata::default())
    }

    /// What a model predicts the outcome by: the covariates, cut off at ±3, and their squares.
    pub(crate) fn features(&self) -> Vec<Vec<f64>> {
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

/// Experiments of every shape with twists, each with its correlations, and of every size.
pub(crate) fn grid<'a>(
    twists: &'a [(Twist, &'a [f64])],
    sizes: &'a [(usize, usize)],
) -> impl Iterator<Item = (World, (usize, usize))> + 'a {
    Shape::ALL.into_iter().flat_map(move |shape| {
        twists.iter().flat_map(move |&(twist, correlations)| {
            correlations.iter().flat_map(move |&correlation| {
                let world = World { shape, twist, correlation };
                sizes.iter().map(move |&sizes| (world, sizes))
            })
        })
    })
}

/// Whether there is time for an experiment: the largest are few, and eight covariates are for few units.
pub(crate) fn is_run(
    world: World,
    (n_t, n_c): (usize, usize),
    largest: usize,
    of_a_million: impl Fn(World) -> bool,
) -> bool {
    let too_long = world.twist == Twist::Eight && n_t > 2000;
    let alike = n_t > 20_000 && !of_a_million(world);
    !too_long && !alike && n_t.max(n_c) <= largest
}
