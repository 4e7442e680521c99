//! Exact, order-independent sums.
//!
//! Floating-point addition is not associative, so a sum of doubles depends on threads, files and batches. The sums here
//! are the *true* sums of `x` and of `x·y` as integers on a binary grid: any order, split, machine or later rewrite
//! gives the same value and the same bytes. Rounding happens once, when a result is read.
//!
//! [`ExactSum`] is one such sum: 256 bits in place, or a sparse big accumulator (`plain`) that takes anything and is what
//! the tests compare the rest with. [`SumTable`] keeps many sums at once (of the columns of every group and of their
//! products) and is what aggregates feed a batch at a time. It adds sixty-four rows at a time (`kernel`, `avx2`) into
//! integer lanes (`format`) and sends the rows that do not fit those to exact sums beside them (`side`).

#[cfg(target_arch = "x86_64")]
mod avx2;
mod dispatch;
mod fit;
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
