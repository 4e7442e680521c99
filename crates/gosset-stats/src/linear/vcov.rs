//! Covariance matrices of coefficients.

use super::Vcov;
use super::fit::{Fit, Moments};
use crate::double_double::Dd;
use crate::summary::gram::Cell;

/// The covariance matrix of the coefficients that are kept.
#[derive(Debug)]
pub(super) struct Covariance {
    pub(super) matrix: Vec<Vec<Dd>>,
    /// Degrees of freedom.
    pub(super) df: f64,
    pub(super) clusters: Option<u64>,
}

/// A row at which the leverage is this near to 1 determines a coefficient alone.
const FULL_LEVERAGE: f64 = 1e-12;

impl Fit<'_> {
    /// The covariance of the coefficients, or why there is none.
    pub(super) fn covariance(&self, vcov: Vcov) -> Result<Covariance, String> {
        let (n, rank) = (self.n(), self.rank());
        if n <= rank {
            return Err(format!(
                "no standard errors: as many coefficients as rows, {n}, leave no degrees of freedom"
            ));
        }
        let left = (n - rank) as f64;
        match vcov {
            Vcov::Classical => {
                let variance = self.residual / Dd::from(left);
                let matrix = self.inverse.iter().map(|row| row.iter().map(|&x| x * variance));
                let matrix = matrix.map(Iterator::collect).collect();
                Ok(Covariance { matrix, df: left, clusters: None })
            }
            Vcov::Hc0 | Vcov::Hc1 | Vcov::Hc2 | Vcov::Hc3 => {
                let factor = if vcov == Vcov::Hc1 { n as f64 / left } else { 1.0 };
                let matrix = self.sandwich(&self.meat_of_rows(vcov)?, Dd::from(factor));
                Ok(Covariance { matrix, df: left, clusters: None })
            }
            Vcov::Cr0 | Vcov::Cr1 => self.clustered(vcov == Vcov::Cr1),
        }
    }

    /// `factor · (X'X)⁻¹ M (X'X)⁻¹`.
    fn sandwich(&self, meat: &[Vec<Dd>], factor: Dd) -> Vec<Vec<Dd>> {
        let half = product(&self.inverse, meat);
        let mut matrix = product(&half, &self.inverse);
        matrix.iter_mut().flatten().for_each(|x| *x = *x * factor);
        matrix
    }

    /// `Σ x x' e² / (1 − h)^k` over the distinct rows.
    fn meat_of_rows(&self, vcov: Vcov) -> Result<Vec<Vec<Dd>>, String> {
        if self.gram.distinct_rows().is_none() {
            return Err(format!(
                "no standard errors: {} needs the distinct rows, of which there are more than max_rows: {}; \
                 raise it, or ask for vcov: 'classical'",
                vcov.name(),
                self.gram.max_rows()
            ));
        }
        let mut meat = self.zeros();
        if self.residual.is_zero() {
            return Ok(meat);
        }
        let weighted = usize::from(self.gram.columns().weighted());
        let outcomes = self.gram.columns().outcomes().len();
        let outcome = self.outcome + outcomes - self.gram.columns().width();
        let square = crate::summary::moments::product_index(outcomes, outcome, outcome);
        for cell in self.gram.cells() {
            let values: Vec<f64> = self.gram.values(cell).collect();
            let ones = if weighted == 1 { values[0] } else { 1.0 };
            let active = &self.block(self.gram.levels(cell)).active;
            let x: Vec<(usize, Dd)> = active
                .iter()
                .filter_map(|a| {
                    let value = a.number.map_or(ones, |number| values[weighted + number]);
                    Some((self.kept[a.column]?, Dd::from(value)))
                })
                .collect();
            let fitted = x.iter().fold(Dd::ZERO, |sum, &(i, x)| sum + x * self.coefficients[i]);
            let sum = Dd::from(&cell.sum(outcome));
            let squares = Dd::from(&cell.sum(square));
            let n = Dd::from(cell.n());
            let mut residual = squares - fitted * (sum + sum - n * fitted);
            if vcov == Vcov::Hc2 || vcov == Vcov::Hc3 {
                let mut leverage = Dd::ZERO;
                for &(i, a) in &x {
                    let row = &self.inverse[i];
                    leverage += a * x.iter().fold(Dd::ZERO, |sum, &(j, b)| sum + row[j] * b);
                }
                let left = Dd::ONE - leverage;
                if left.to_f64() < FULL_LEVERAGE {
                    return Err(format!(
                        "no standard errors: {} is not defined where a row determines a coefficient alone \
                         (its leverage is 1)",
                        vcov.name()
                    ));
                }
                residual = residual / left;
                if vcov == Vcov::Hc3 {
                    residual = residual / left;
                }
            }
            for &(i, a) in &x {
                let scaled = residual * a;
                for &(j, b) in &x {
                    meat[i][j] += scaled * b;
                }
            }
        }
        Ok(meat)
    }

    fn clustered(&self, small_sample: bool) -> Result<Covariance, String> {
        let ways = self.gram.columns().clusters();
        if ways == 2 && self.gram.distinct_rows().is_none() {
            return Err(format!(
                "no standard errors: clusters of two factors need their distinct rows, of which there are more than \
                 max_rows: {}; raise it",
                self.gram.max_rows()
            ));
        }
        let by = |factor: usize| move |cell| [self.gram.cluster(cell, factor), &[]];
        let one = |meat: (Vec<Vec<Dd>>, u64)| -> Result<(Vec<Vec<Dd>>, u64), String> {
            let (meat, clusters) = meat;
            if clusters < 2 {
                return Err(format!(
                    "no standard errors: at least 2 clusters are needed, found {clusters}"
                ));
            }
            let (n, g) = (self.n() as f64, clusters as f64);
            let left = n - self.rank() as f64;
            let factor = if small_sample { (g / (g - 1.0)) * ((n - 1.0) / left) } else { 1.0 };
            Ok((self.sandwich(&meat, Dd::from(factor)), clusters))
        };
        let (mut matrix, mut clusters) = one(self.meat_of_clusters(by(0)))?;
        if ways == 2 {
            let (second, others) = one(self.meat_of_clusters(by(1)))?;
            let both = |cell| [0, 1].map(|factor| self.gram.cluster(cell, factor));
            let (common, _) = one(self.meat_of_clusters(both))?;
            for (row, (second, common)) in matrix.iter_mut().zip(second.iter().zip(&common)) {
                for (x, (&b, &ab)) in row.iter_mut().zip(second.iter().zip(common)) {
                    *x = *x + b - ab;
                }
            }
            clusters = clusters.min(others);
        }
        Ok(Covariance { matrix, df: (clusters - 1) as f64, clusters: Some(clusters) })
    }

    /// `Σ s s'` over clusters, `s` the sum of the scores of a cluster, and how many clusters there are.
    fn meat_of_clusters<'g>(
        &'g self,
        cluster: impl Fn(Cell<'g>) -> [&'g [u64]; 2],
    ) -> (Vec<Vec<Dd>>, u64) {
        let cluster = |&cell: &u32| cluster(self.gram.cell(cell as usize));
        let mut order: Vec<u32> = (0..self.gram.len() as u32).collect();
        order.sort_by(|a, b| cluster(a).cmp(&cluster(b)));
        let mut meat = self.zeros();
        let mut total = vec![Dd::ZERO; self.coefficients.len()];
        let mut scores = Scores::default();
        let mut touched: Vec<usize> = Vec::new();
        let mut clusters = 0;
        for same in order.chunk_by(|a, b| cluster(a) == cluster(b)) {
            clusters += 1;
            if self.residual.is_zero() {
                continue;
            }
            touched.clear();
            for &cell in same {
                for (i, score) in scores.of(self, self.gram.cell(cell as usize)) {
                    total[i] += score;
                    touched.push(i);
                }
            }
            touched.sort_unstable();
            touched.dedup();
            for &i in &touched {
                for &j in &touched {
                    meat[i][j] += total[i] * total[j];
                }
            }
            touched.iter().for_each(|&i| total[i] = Dd::ZERO);
        }
        (meat, clusters)
    }

    fn zeros(&self) -> Vec<Vec<Dd>> {
        vec![vec![Dd::ZERO; self.coefficients.len()]; self.coefficients.len()]
    }
}

/// The product of two square matrices.
fn product(a: &[Vec<Dd>], b: &[Vec<Dd>]) -> Vec<Vec<Dd>> {
    a.iter()
        .map(|row| {
            let mut out = vec![Dd::ZERO; row.len()];
            for (&x, b) in row.iter().zip(b) {
                out.iter_mut().zip(b).for_each(|(out, &b)| *out += x * b);
            }
            out
        })
        .collect()
}

/// Room for the scores of a cell, that is used again.
#[derive(Debug, Default)]
struct Scores {
    /// Columns of the design that are not 0 in the cell: the place of each among the coefficients, and what it is there.
    columns: Vec<(usize, usize)>,
    /// What columns are there, a number or 1.
    values: Vec<Option<usize>>,
    /// The products of these, row by row, each row with that of the outcome at its end.
    products: Vec<Dd>,
}

impl Scores {
    /// `X'e` over the rows of a cell, where it is not 0.
    fn of<'s>(
        &'s mut self,
        fit: &Fit<'_>,
        cell: Cell<'_>,
    ) -> impl Iterator<Item = (usize, Dd)> + use<'s> {
        let moments = Moments::new(fit.gram);
        self.columns.clear();
        self.values.clear();
        for active in &fit.block(fit.gram.levels(cell)).active {
            let Some(i) = fit.kept[active.column] else { continue };
            let value = moments.number(active.number);
            let known = self.values.iter().position(|&other| other == value);
            let at = known.unwrap_or_else(|| {
                self.values.push(value);
                self.values.len() - 1
            });
            self.columns.push((i, at));
        }
        self.products.clear();
        for &a in &self.values {
            let row = self.values.iter().copied().chain([Some(fit.outcome)]);
            self.products.extend(row.map(|b| moments.of_cell(cell, a, b)));
        }
        // Columns that are the same there have the same score.
        let width = self.values.len() + 1;
        for at in 0..self.values.len() {
            let row = &self.products[at * width..][..width];
            let score = self
                .columns
                .iter()
                .fold(row[width - 1], |left, &(j, b)| left - row[b] * fit.coefficients[j]);
            self.products[at * width] = score;
        }
        let (columns, products) = (&self.columns, &self.products);
        columns.iter().map(move |&(i, at)| (i, products[at * width]))
    }
}
