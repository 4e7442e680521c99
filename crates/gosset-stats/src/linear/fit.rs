//! Least squares from the exact normal equations.

use std::collections::BTreeMap;

use super::LinearOptions;
use super::design::{Active, Design, missing_reference};
use crate::double_double::Dd;
use crate::exact::{ExactSum, Products, Sums};
use crate::linalg::Factor;
use crate::summary::gram::Cell;
use crate::summary::moments::{INDICATOR, product_index};
use crate::summary::{Gram, RegressorKind};
use crate::{Error, Result};

/// A column is dependent where less than this share of its sum of squares is left after those before it: about the
/// rounding of its values. A column of 1e9 ± 1 beside the intercept leaves 1e-18.
const TOLERANCE: f64 = 1e-25;

/// Residuals are nothing where their sum of squares is less than this share of that of the outcome: about the rounding
/// of its values.
const EXACT: f64 = 1e-28;

/// The rows of a combination of factors.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) sums: Sums,
    /// The columns that are not 0 there.
    pub(super) active: Vec<Active>,
}

/// The least squares of one outcome on a design.
#[derive(Debug)]
pub(super) struct Fit<'a> {
    pub(super) gram: &'a Gram,
    pub(super) design: Design,
    /// The place of the outcome among the columns of moments.
    pub(super) outcome: usize,
    /// By the levels of the factors.
    pub(super) blocks: BTreeMap<Vec<u64>, Block>,
    /// For each column of the design its place among those that do not depend on others.
    pub(super) kept: Vec<Option<usize>>,
    pub(super) coefficients: Vec<Dd>,
    /// `(X'X)⁻¹` of the columns that are kept.
    pub(super) inverse: Vec<Vec<Dd>>,
    /// The sum of squares of the residuals.
    pub(super) residual: Dd,
    /// That of the outcome, about its mean where there is an intercept.
    pub(super) total: Dd,
}

/// Whether a fit was made.
pub(super) enum Outcome<'a> {
    Fitted(Box<Fit<'a>>),
    /// There is none, for this reason; of the columns with these names.
    Undefined(Vec<String>, String),
    /// There are values that are not finite.
    NotFinite(Vec<String>),
}

impl<'a> Fit<'a> {
    pub(super) fn of(gram: &'a Gram, options: &LinearOptions) -> Result<Outcome<'a>> {
        let outcome =
            gram.columns().width() - gram.columns().outcomes().len() + which(gram, options)?;
        let by_factors = gram.by_factors();
        let design = Design::new(gram, options, &idle(gram, &by_factors))?;
        if gram.not_finite() > 0 {
            return Ok(Outcome::NotFinite(design.names));
        }
        let columns = design.names.len();
        let why = match gram.n() {
            0 => Some("no rows".to_owned()),
            n if (n as usize) < columns => {
                Some(format!("more columns than rows: {columns} columns, {n} rows"))
            }
            _ => missing_reference(gram, options),
        };
        if let Some(why) = why {
            return Ok(Outcome::Undefined(design.names, why));
        }
        let mut blocks = BTreeMap::new();
        for (levels, sums) in by_factors {
            let active = design.active(&levels);
            blocks.insert(levels, Block { sums, active });
        }
        let moments = Moments::new(gram);
        let equations = Equations::new(&moments, columns, outcome, blocks.values());
        let Some(solution) = equations.solve() else {
            return Ok(Outcome::NotFinite(design.names));
        };
        let mut total = equations.outcome();
        if design.intercept {
            let mut all = Sums::new(gram.columns().width(), Products::All);
            blocks.values().for_each(|block| all.merge(&block.sums));
            let with_ones = Dd::from(&moments.get(&all, None, Some(outcome)));
            total -= with_ones * with_ones / Dd::from(&moments.get(&all, None, None));
        }
        let Solution { kept, coefficients, inverse, residual } = solution;
        Ok(Outcome::Fitted(Box::new(Self {
            gram,
            design,
            outcome,
            blocks,
            kept,
            coefficients,
            inverse,
            residual,
            total,
        })))
    }

    /// Rows.
    pub(super) fn n(&self) -> u64 {
        self.gram.n()
    }

    /// Columns that are kept.
    pub(super) fn rank(&self) -> u64 {
        self.coefficients.len() as u64
    }

    /// The block of a combination of factors.
    pub(super) fn block(&self, levels: &[u64]) -> &Block {
        self.blocks.get(levels).expect("the levels of a cell")
    }

    /// The indicators of regressors that are missing somewhere, with the number of rows where it is known.
    pub(super) fn missing(&self) -> Vec<(&str, Option<f64>)> {
        let moments = Moments::new(self.gram);
        let rows = |number: usize| {
            let sums = self
                .blocks
                .values()
                .map(|block| moments.get(&block.sums, moments.number(Some(number)), None).to_f64());
            (!self.gram.columns().weighted()).then(|| sums.sum())
        };
        let indicators = indicators(self.gram);
        let named = indicators.filter(|(_, name)| self.design.names.iter().any(|n| n == name));
        named.map(|(number, name)| (name, rows(number))).collect()
    }

    /// The names of the columns that depend on others.
    pub(super) fn dropped(&self) -> Vec<&str> {
        let names = self.design.names.iter().zip(&self.kept);
        names.filter(|(_, kept)| kept.is_none()).map(|(name, _)| name.as_str()).collect()
    }
}

/// The indicators of missing numbers: their places among the numbers, and their names.
fn indicators(gram: &Gram) -> impl Iterator<Item = (usize, &str)> {
    let numbers = gram.columns().regressors().iter().filter(|r| r.kind == RegressorKind::Number);
    let named = numbers.enumerate().map(|(number, regressor)| (number, regressor.name.as_str()));
    named.filter(|(_, name)| name.ends_with(INDICATOR))
}

/// The indicators of what is missing nowhere: they say nothing.
fn idle<'a>(gram: &'a Gram, by_factors: &BTreeMap<Vec<u64>, Sums>) -> Vec<&'a str> {
    let moments = Moments::new(gram);
    let is_idle = |&(number, _): &(usize, &str)| {
        let column = moments.number(Some(number));
        by_factors.values().all(|sums| moments.get(sums, column, column).is_zero())
    };
    indicators(gram).filter(is_idle).map(|(_, name)| name).collect()
}

/// The place of the outcome that is asked for.
fn which(gram: &Gram, options: &LinearOptions) -> Result<usize> {
    let outcomes = gram.columns().outcomes();
    match &options.outcome {
        None if outcomes.len() == 1 => Ok(0),
        None => Err(Error::Invalid(format!(
            "expected the name of one of the outcomes: {}",
            super::design::listed(outcomes)
        ))),
        Some(name) => outcomes.iter().position(|outcome| outcome == name).ok_or_else(|| {
            Error::Invalid(format!(
                "no outcome has the name '{name}'; expected one of {}",
                super::design::listed(outcomes)
            ))
        }),
    }
}

/// Where the sums of a summary's columns are. A column is `None` for the ones of the intercept, which are `√w` where rows
/// have weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    weighted: bool,
    width: usize,
}

impl Moments {
    pub(super) fn new(gram: &Gram) -> Self {
        Self { weighted: gram.columns().weighted(), width: gram.columns().width() }
    }

    /// The column of a number.
    pub(super) fn number(self, number: Option<usize>) -> Option<usize> {
        number.map(|number| number + usize::from(self.weighted))
    }

    /// The place of the sum of the products of two columns among the sums; `None` where it is the number of rows.
    fn place(self, a: Option<usize>, b: Option<usize>) -> Option<usize> {
        let ones = self.weighted.then_some(0);
        match (a.or(ones), b.or(ones)) {
            (None, None) => None,
            (Some(column), None) | (None, Some(column)) => Some(column),
            (Some(a), Some(b)) => Some(product_index(self.width, a, b)),
        }
    }

    /// The sum of the products of two columns.
    pub(super) fn get(self, sums: &Sums, a: Option<usize>, b: Option<usize>) -> ExactSum {
        self.place(a, b)
            .map_or_else(|| ExactSum::from_integer(sums.n.into()), |place| sums.sums[place].clone())
    }

    /// The same over the rows of a cell, rounded.
    pub(super) fn of_cell(self, cell: Cell<'_>, a: Option<usize>, b: Option<usize>) -> Dd {
        self.place(a, b).map_or_else(|| Dd::from(cell.n()), |place| Dd::from(&cell.sum(place)))
    }
}

/// `X'X`, `X'y` and `y'y`, exactly.
struct Equations {
    columns: usize,
    /// The lower triangle, of which the outcome is the last row.
    products: Vec<ExactSum>,
}

struct Solution {
    kept: Vec<Option<usize>>,
    coefficients: Vec<Dd>,
    inverse: Vec<Vec<Dd>>,
    residual: Dd,
}

impl Equations {
    fn new<'a>(
        moments: &Moments,
        columns: usize,
        outcome: usize,
        blocks: impl Iterator<Item = &'a Block>,
    ) -> Self {
        let mut products = vec![ExactSum::new(); (columns + 1) * (columns + 2) / 2];
        for Block { sums, active } in blocks {
            let all: Vec<(usize, Option<usize>)> = active
                .iter()
                .map(|a| (a.column, moments.number(a.number)))
                .chain([(columns, Some(outcome))])
                .collect();
            for (k, &(i, a)) in all.iter().enumerate() {
                for &(j, b) in &all[..=k] {
                    products[triangle(i.max(j)) + i.min(j)].merge(&moments.get(sums, a, b));
                }
            }
        }
        Self { columns, products }
    }

    fn product(&self, i: usize, j: usize) -> Dd {
        Dd::from(&self.products[triangle(i.max(j)) + i.min(j)])
    }

    /// `y'y`.
    fn outcome(&self) -> Dd {
        self.product(self.columns, self.columns)
    }

    /// The solution; `None` if a sum is beyond the range of doubles.
    fn solve(&self) -> Option<Solution> {
        // Columns of about one size, by powers of two: nothing is rounded.
        let scales: Vec<f64> =
            (0..=self.columns).map(|i| scale(self.product(i, i).to_f64())).collect();
        let scaled = |i: usize, j: usize| self.product(i, j).scaled(scales[i]).scaled(scales[j]);
        let mut factor = Factor::new(Dd::from(TOLERANCE));
        let mut kept = Vec::with_capacity(self.columns);
        let mut places: Vec<usize> = Vec::new();
        for i in 0..self.columns {
            let row: Vec<Dd> = places.iter().chain([&i]).map(|&j| scaled(i, j)).collect();
            if !row.iter().all(|x| x.is_finite()) {
                return None;
            }
            let row = factor.next_row(&row);
            kept.push(row.is_some().then_some(places.len()));
            if let Some(row) = row {
                factor.push(row);
                places.push(i);
            }
        }
        let y = self.columns;
        let with_outcome: Vec<Dd> = places.iter().map(|&i| scaled(i, y)).collect();
        let outcome = scaled(y, y);
        if !outcome.is_finite() || !with_outcome.iter().all(|x| x.is_finite()) {
            return None;
        }
        let mut residual = outcome - factor.quadratic_form(&with_outcome);
        if residual <= outcome * Dd::from(EXACT) {
            residual = Dd::ZERO;
        }
        let back = 1.0 / scales[y];
        let coefficients = factor.solve(&with_outcome).into_iter().zip(&places);
        let inverse = factor.inverse().into_iter().zip(&places);
        Some(Solution {
            kept,
            coefficients: coefficients.map(|(b, &i)| b.scaled(scales[i]).scaled(back)).collect(),
            inverse: inverse
                .map(|(row, &i)| {
                    let row = row.into_iter().zip(&places);
                    row.map(|(x, &j)| x.scaled(scales[i]).scaled(scales[j])).collect()
                })
                .collect(),
            residual: residual.scaled(back).scaled(back),
        })
    }
}

/// Where a row of a lower triangle starts.
fn triangle(row: usize) -> usize {
    row * (row + 1) / 2
}

/// The power of two that takes the root of a sum of squares to about 1.
fn scale(square: f64) -> f64 {
    if square > 0.0 && square.is_finite() {
        libm::scalbn(1.0, -libm::ilogb(square) / 2)
    } else {
        1.0
    }
}
