//! The exact sum and count of one column.

use super::{Kind, Reader, Summary, Writer};
use crate::exact::ExactSum;
use crate::{Error, Result};

/// The exact sum of a column and how many values it has.
///
/// The bytes are short where the sum is itself a double, as it is for one value and for most sums of integers: an
/// aggregation by unit has millions of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    /// Number of values.
    pub n: u64,
    /// Their sum.
    pub sum: ExactSum,
}

const DOUBLE: u8 = 0;
const EXACT: u8 = 1;

impl Totals {
    /// The sum, rounded once; `None` without values.
    pub fn sum(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum.to_f64())
    }

    /// The value, if these are the bytes (without header) of the sum of one finite double.
    pub fn single(bytes: &[u8]) -> Option<f64> {
        match bytes {
            [1, DOUBLE, value @ ..] => Some(f64::from_le_bytes(value.try_into().ok()?)),
            _ => None,
        }
    }
}

impl Summary for Totals {
    const KIND: Kind = Kind::Totals;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.n += other.n;
        self.sum.merge(&other.sum);
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        out.varint(self.n);
        match self.sum.as_f64() {
            Some(value) => {
                out.u8(DOUBLE);
                out.f64(value);
            }
            None => {
                out.u8(EXACT);
                out.sum(&self.sum);
            }
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let n = bytes.rows()?;
        let sum = match bytes.u8()? {
            DOUBLE => {
                let mut sum = ExactSum::new();
                sum.add(bytes.f64()?);
                sum
            }
            EXACT => bytes.sum()?,
            other => {
                return Err(Error::Damaged(format!("expected a form of 0 or 1, found {other}")));
            }
        };
        Ok(Self { n, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_back_and_merge() {
        let mut whole = Totals::default();
        for x in [0.1, 1e300, -1e300, -0.0, 5e-324] {
            let mut one = Totals { n: 1, sum: ExactSum::new() };
            one.sum.add(x);
            let read = Totals::decode(&one.encode()).expect("own bytes");
            assert_eq!(read, one);
            whole.merge(&read).expect("sums merge");
        }
        assert_eq!(whole.n, 5);
        assert_eq!(Totals::decode(&whole.encode()).expect("own bytes"), whole);
        assert_eq!(whole.sum(), Some(0.1));
    }
}
