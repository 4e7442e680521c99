//! Exact, order-independent sums.
//!
//! Floating-point addition is not associative, so a sum of doubles depends on threads, files and batches. The sums here
//! are the *true* sums of `x` and of `x·y` as integers on a binary grid: any order, split, machine or later rewrite
//! gives the same value and the same bytes. Rounding happens once, when a result is read.
//!
//! [`ExactSum`] is one such sum: a sparse big accumulator, portable and obviously right. [`SumTable`] keeps many at
//! once (the sums and products of the columns of every group) and is what aggregates feed a batch at a time.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod dispatch;
mod format;
mod int256;
mod kernel;
mod plain;
mod side;
mod sum;
mod table;
#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests;

pub use sum::{ExactSum, cross};
pub use table::{Products, SumTable, Sums};
