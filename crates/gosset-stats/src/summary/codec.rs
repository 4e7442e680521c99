//! The byte form of summaries: a small writer and a reader that never panics.

use super::Kind;
use crate::exact::{ExactSum, Products, Sums};
use crate::{Error, Result};

/// The first bytes of every summary.
const MAGIC: [u8; 2] = *b"gs";

/// The most rows that a stored summary has: as many as a double counts, and few enough that sums of counts stay in range.
const MAX_ROWS: u64 = 1 << 53;

/// Appends values in little-endian order.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A writer that goes on after `bytes`, in their memory.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
    /// The header of a summary.
    pub(super) fn header(&mut self, kind: Kind, layout: u8) {
        self.0.extend_from_slice(&MAGIC);
        self.0.extend_from_slice(&[kind as u8, layout]);
    }
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    /// An unsigned integer in LEB128: small numbers take one byte.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// Sixteen bytes.
    pub fn u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// A double.
    pub fn f64(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// A length and the UTF-8 bytes.
    pub fn text(&mut self, value: &str) {
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }
    /// A length and bytes.
    pub fn blob(&mut self, value: &[u8]) {
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
    /// An exact sum in its canonical form.
    pub fn sum(&mut self, value: &ExactSum) {
        value.encode(&mut self.0);
    }
    /// The row count and all sums of a slot.
    pub fn sums(&mut self, value: &Sums) {
        self.varint(value.n);
        value.sums.iter().for_each(|s| self.sum(s));
    }
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what a [`Writer`] wrote; every method is an error rather than a panic on foreign bytes.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

fn ends_early() -> Error {
    Error::Damaged("they end early".into())
}

/// Checks a number of rows that was read.
pub(super) fn check_rows(rows: u64) -> Result<u64> {
    if rows <= MAX_ROWS {
        Ok(rows)
    } else {
        Err(Error::Damaged(format!("expected at most {MAX_ROWS} rows, found {rows} rows")))
    }
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(head)
    }
    pub(super) fn header(&mut self) -> Result<(Kind, u8)> {
        let head = self.take(4)?;
        if head[..2] != MAGIC {
            return Err(Error::Damaged("they do not start with the header of a summary".into()));
        }
        let kind = match head[2] {
            1 => Kind::Moments,
            2 => Kind::Buckets,
            3 => Kind::Counts,
            4 => Kind::Totals,
            5 => Kind::Replicates,
            6 => Kind::Histogram,
            7 => Kind::Gram,
            8 => Kind::StratifiedMoments,
            9 => Kind::BinnedMoments,
            other => {
                return Err(Error::Mismatch(format!(
                    "summary kind {other} is not known to this version"
                )));
            }
        };
        Ok((kind, head[3]))
    }
    /// One byte.
    ///
    /// # Errors
    /// [`Error::Damaged`] at the end of the bytes, as for all of these.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }
    /// An unsigned integer in LEB128.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return if byte == 0 && shift > 0 {
                    Err(Error::Damaged("a number is not in its shortest form".into()))
                } else {
                    Ok(value)
                };
            }
        }
        Err(Error::Damaged("a number has more than 64 bits".into()))
    }
    /// A number of rows, which is never near the end of the range of its type.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn rows(&mut self) -> Result<u64> {
        check_rows(self.varint()?)
    }
    /// A count of things that take at least `bytes_each` bytes, checked against what is left.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn count(&mut self, bytes_each: usize) -> Result<usize> {
        let n = self.varint()?;
        if n > (self.0.len() / bytes_each.max(1)) as u64 {
            Err(ends_early())
        } else {
            Ok(n as usize)
        }
    }
    /// A byte of 0 or 1.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Error::Damaged(format!("expected a flag of 0 or 1, found {other}"))),
        }
    }
    /// Eight bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| ends_early())?;
        Ok(u64::from_le_bytes(bytes))
    }
    /// Sixteen bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn u128(&mut self) -> Result<u128> {
        let bytes = self.take(16)?.try_into().map_err(|_| ends_early())?;
        Ok(u128::from_le_bytes(bytes))
    }
    /// A double.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn f64(&mut self) -> Result<f64> {
        let bytes = self.take(8)?.try_into().map_err(|_| ends_early())?;
        Ok(f64::from_le_bytes(bytes))
    }
    /// Text.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn text(&mut self) -> Result<String> {
        let bytes = self.blob()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::Damaged("a name is not UTF-8".into()))
    }
    /// Bytes with their length.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn blob(&mut self) -> Result<&'a [u8]> {
        let n = self.count(1)?;
        self.take(n)
    }
    /// An exact sum.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn sum(&mut self) -> Result<ExactSum> {
        ExactSum::decode(&mut self.0)
    }
    /// The sums of a slot.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn sums(&mut self, columns: usize, products: Products) -> Result<Sums> {
        let n = self.rows()?;
        let sums = (0..products.sums(columns)).map(|_| self.sum()).collect::<Result<_>>()?;
        Ok(Sums { n, sums })
    }
    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Error::Damaged`] if bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Damaged(format!("{} bytes are left over", self.0.len())))
        }
    }
}
