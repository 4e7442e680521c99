//! Small symmetric systems, with dependent columns found as they come.
//!
//! A factor of our own instead of a library's: it grows by one column at a time and turns down a column that depends on
//! those before it (libraries return no factor at all then), it takes no square roots, so that the solution for one
//! column is one division, and its loops add in one fixed order: the result is the same bits on every machine.

use std::ops::{Add, Div, Mul, Sub};

/// A column of doubles is dependent where less than this share of its sum of squares is left after those before it.
const TOLERANCE: f64 = 1e-10;

/// Doubles, or numbers with more digits.
pub(crate) trait Number:
    Copy
    + PartialOrd
    + From<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
}

impl Number for f64 {}

/// The factors `A = L·D·Lᵀ` of a symmetric positive definite matrix, made column by column: `L` has a diagonal of ones.
#[derive(Debug, Clone)]
pub(crate) struct Factor<T = f64> {
    /// The rows of `L` before the diagonal.
    lower: Vec<Vec<T>>,
    /// `D`.
    diagonal: Vec<T>,
    /// The share of a sum of squares that is nothing.
    tolerance: T,
}

/// A column that does not depend on those before it, as a row of the factor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row<T = f64> {
    lower: Vec<T>,
    diagonal: T,
}

impl Default for Factor {
    fn default() -> Self {
        Self::new(TOLERANCE)
    }
}

impl<T: Number> Factor<T> {
    /// The factor of no columns.
    pub(crate) fn new(tolerance: T) -> Self {
        Self { lower: Vec::new(), diagonal: Vec::new(), tolerance }
    }

    /// The next row, or `None` if the column depends on those before it.
    ///
    /// `products` are the column's products with the columns before it, then with itself.
    pub(crate) fn next_row(&self, products: &[T]) -> Option<Row<T>> {
        let (&square, before) = products.split_last().expect("a column has a product with itself");
        let scaled = self.forward(before);
        let lower: Vec<T> = scaled.iter().zip(&self.diagonal).map(|(&z, &d)| z / d).collect();
        let left = scaled.iter().zip(&lower).fold(square, |left, (&z, &l)| left - z * l);
        // A NaN is no reason to drop a column: it is passed on.
        let dependent = square <= T::from(0.0) || left <= self.tolerance * square;
        (!dependent).then_some(Row { lower, diagonal: left })
    }

    /// Adds a row made by [`next_row`](Self::next_row).
    pub(crate) fn push(&mut self, row: Row<T>) {
        self.lower.push(row.lower);
        self.diagonal.push(row.diagonal);
    }

    /// The solution of `A·x = b`.
    pub(crate) fn solve(&self, b: &[T]) -> Vec<T> {
        let mut x: Vec<T> =
            self.forward(b).iter().zip(&self.diagonal).map(|(&z, &d)| z / d).collect();
        for i in (0..x.len()).rev() {
            for j in i + 1..x.len() {
                x[i] = x[i] - self.lower[j][i] * x[j];
            }
        }
        x
    }

    /// `A⁻¹`, row by row.
    pub(crate) fn inverse(&self) -> Vec<Vec<T>> {
        let n = self.diagonal.len();
        let unit =
            |i: usize| -> Vec<T> { (0..n).map(|j| T::from(f64::from(u8::from(i == j)))).collect() };
        (0..n).map(|i| self.solve(&unit(i))).collect()
    }

    /// `bᵀ·A⁻¹·b`.
    pub(crate) fn quadratic_form(&self, b: &[T]) -> T {
        let terms = self.forward(b).into_iter().zip(&self.diagonal);
        terms.fold(T::from(0.0), |sum, (z, &d)| sum + z * z / d)
    }

    /// The solution of `L·z = b`.
    fn forward(&self, b: &[T]) -> Vec<T> {
        debug_assert_eq!(b.len(), self.diagonal.len());
        let mut z: Vec<T> = Vec::with_capacity(b.len());
        for (row, &b) in self.lower.iter().zip(b) {
            z.push(row.iter().zip(&z).fold(b, |left, (&l, &z)| left - l * z));
        }
        z
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are equal to the bit")]
mod tests {
    use super::*;

    fn factor(matrix: &[&[f64]]) -> Factor {
        let mut factor = Factor::default();
        for (i, row) in matrix.iter().enumerate() {
            let row = factor.next_row(&row[..=i]).expect("a positive definite matrix");
            factor.push(row);
        }
        factor
    }

    #[test]
    fn a_system_with_a_whole_solution_is_solved_exactly() {
        // L = [[1], [½, 1], [−½, ⅔, 1]], D = (4, 9, 1).
        let factor = factor(&[&[4.0, 2.0, -2.0], &[2.0, 10.0, 5.0], &[-2.0, 5.0, 6.0]]);
        assert_eq!(factor.solve(&[2.0, 37.0, 26.0]), [1.0, 2.0, 3.0]);
        assert_eq!(factor.quadratic_form(&[2.0, 37.0, 26.0]), 2.0 + 74.0 + 78.0);
    }

    #[test]
    fn dependent_and_constant_columns_are_turned_down() {
        let mut factor = Factor::default();
        assert_eq!(factor.next_row(&[0.0]), None);
        let row = factor.next_row(&[4.0]).expect("an independent column");
        factor.push(row);
        assert_eq!(factor.next_row(&[8.0, 16.0]), None);
        assert_eq!(factor.next_row(&[8.0, 16.0 * (1.0 + 1e-12)]), None);
        assert!(factor.next_row(&[8.0, 16.0 * (1.0 + 1e-6)]).is_some());
    }

    #[test]
    fn nan_is_passed_on() {
        let mut factor = Factor::default();
        let row = factor.next_row(&[f64::NAN]).expect("not dependent");
        factor.push(row);
        assert!(factor.solve(&[1.0])[0].is_nan());
    }
}
