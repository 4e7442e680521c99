//! The units of an arm and their rows.

use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{Rows, Table};
use gosset_stats::units;

use crate::simulate::Random;

/// The law of what a unit is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shape {
    Normal,
    Lognormal,
    ZeroInflated,
    Bernoulli(f64),
}

impl Shape {
    pub(super) const ALL: [Self; 4] =
        [Self::Normal, Self::Lognormal, Self::ZeroInflated, Self::Bernoulli(0.001)];

    pub(super) fn name(self) -> String {
        match self {
            Self::Normal => "normal".into(),
            Self::Lognormal => "lognormal σ = 1.5".into(),
            Self::ZeroInflated => "92 % zeros, else lognormal σ = 1.5".into(),
            Self::Bernoulli(p) => format!("Bernoulli {p}"),
        }
    }

    pub(super) fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Normal => 10.0 + random.normal(),
            Self::Lognormal => (1.5 * random.normal()).exp(),
            Self::ZeroInflated if random.uniform() < 0.92 => 0.0,
            Self::ZeroInflated => (1.5 * random.normal()).exp(),
            Self::Bernoulli(p) => f64::from(u8::from(random.uniform() < p)),
        }
    }

    /// A value whose mean is that of `draw`, times `lift`.
    fn lifted(self, lift: f64, random: &mut Random) -> f64 {
        match self {
            Self::Bernoulli(p) => Self::Bernoulli(lift * p).draw(random),
            other => lift * other.draw(random),
        }
    }
}

/// What is estimated.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Statistic {
    /// Of units with one row each.
    Mean,
    /// The mean per row of units with 1 to 50 rows, half of whose variation is that of the unit.
    MeanOfRows,
    /// With a denominator that is 1 or more and goes along with the numerator.
    Ratio,
    /// The mean adjusted for what was before: the same of 7 units in 10, else drawn anew.
    Cuped,
}

impl Statistic {
    pub(super) const ALL: [Self; 4] = [Self::Mean, Self::MeanOfRows, Self::Ratio, Self::Cuped];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanOfRows => "mean, 1 to 50 rows",
            Self::Ratio => "ratio",
            Self::Cuped => "cuped",
        }
    }

    /// How many units with one row take as long as a unit: 25 rows are drawn more, and weighted together.
    pub(super) fn cost(self) -> usize {
        if self == Self::MeanOfRows { 6 } else { 1 }
    }

    pub(super) fn columns(self) -> Columns {
        match self {
            Self::Mean | Self::MeanOfRows => outcomes(["y"], 1),
            Self::Ratio => outcomes(["y", "d"], 2),
            Self::Cuped => outcomes(["y", "x"], 1),
        }
    }
}

/// Columns, the first of which are outcomes.
pub(super) fn outcomes<'a>(names: impl IntoIterator<Item = &'a str>, outcomes: usize) -> Columns {
    Columns::new(names.into_iter().map(String::from), outcomes).expect("valid columns")
}

/// An arm to be drawn.
#[derive(Clone, Copy)]
pub(super) struct Arm {
    pub(super) shape: Shape,
    pub(super) statistic: Statistic,
    pub(super) units: usize,
    pub(super) treated: bool,
    /// What the mean is multiplied by.
    pub(super) lift: f64,
}

/// Rows with the hashes of their units.
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) columns: Vec<Vec<f64>>,
    pub(super) units: Vec<u128>,
}

/// Rows that are drawn before they are handed on: an arm of a million units has more than are kept.
const CHUNK: usize = 1 << 16;

impl Drawn {
    pub(super) fn of(columns: usize) -> Self {
        Self { columns: vec![Vec::new(); columns], units: Vec::new() }
    }

    pub(super) fn push(&mut self, unit: u128, values: &[f64]) {
        self.columns.iter_mut().zip(values).for_each(|(column, &value)| column.push(value));
        self.units.push(unit);
    }

    /// Hands the rows on, once there are enough of them.
    pub(super) fn hand_on(&mut self, last: bool, to: &mut impl FnMut(&Self)) {
        if last || self.units.len() >= CHUNK {
            to(self);
            self.columns.iter_mut().for_each(Vec::clear);
            self.units.clear();
        }
    }

    /// Adds the rows to the only slot of a table.
    pub(super) fn fill<T: Table>(&self, table: &mut T) {
        let columns: Vec<&[f64]> = self.columns.iter().map(Vec::as_slice).collect();
        table.resize(1);
        table.update(Rows {
            slots: &vec![0; self.units.len()],
            columns: &columns,
            missing: &vec![None; columns.len()],
            units: &self.units,
            ..Rows::default()
        });
    }
}

/// The hash of a unit of an arm.
pub(super) fn unit(treated: bool, i: usize) -> u128 {
    units::integer(i as i128 + if treated { 0 } else { 1 << 40 })
}

impl Arm {
    /// Draws the rows and hands them on, chunk by chunk.
    pub(super) fn draw(&self, random: &mut Random, mut to: impl FnMut(&Drawn)) {
        let Self { shape, statistic, units, treated, lift } = *self;
        let mut drawn = Drawn::of(statistic.columns().len());
        for i in 0..units {
            let level = shape.lifted(lift, random);
            let unit = unit(treated, i);
            match statistic {
                Statistic::Mean => drawn.push(unit, &[level]),
                Statistic::MeanOfRows => {
                    let rows = 1 + (50.0 * random.uniform()) as usize;
                    for _ in 0..rows {
                        let own = rows > 1 && random.uniform() < 0.5;
                        let y = if own { shape.lifted(lift, random) } else { level };
                        drawn.push(unit, &[y]);
                    }
                }
                Statistic::Ratio => {
                    let d = 1.0 + (-3.0 * random.uniform().ln()).floor();
                    drawn.push(unit, &[d * level, d]);
                }
                Statistic::Cuped => {
                    let same = random.uniform() < 0.7;
                    let before = if same { level / lift } else { shape.draw(random) };
                    drawn.push(unit, &[level, before]);
                }
            }
            drawn.hand_on(i + 1 == units, &mut to);
        }
    }
}
