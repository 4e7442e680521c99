//! How many rows each arm has.

use std::collections::BTreeMap;

use super::{Kind, Reader, Summary, Writer};
use crate::{Error, Result};

/// The most arms that are told apart. An arm column with more values is not an arm column.
pub const MAX_ARMS: usize = 1000;

/// Rows by arm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    arms: BTreeMap<String, u64>,
    dropped: u64,
}

impl Counts {
    /// Counts rows of an arm.
    ///
    /// # Errors
    /// [`Error::Invalid`] where that makes more than [`MAX_ARMS`] arms.
    pub fn add(&mut self, arm: &str, rows: u64) -> Result<()> {
        if let Some(count) = self.arms.get_mut(arm) {
            *count += rows;
        } else if self.arms.len() < MAX_ARMS {
            self.arms.insert(arm.to_owned(), rows);
        } else {
            return Err(Error::Invalid(format!(
                "expected an arm column with at most {MAX_ARMS} values, found more"
            )));
        }
        Ok(())
    }

    /// Counts rows without an arm.
    pub fn add_dropped(&mut self, rows: u64) {
        self.dropped += rows;
    }

    /// Rows by arm, in the order of the names.
    pub fn arms(&self) -> &BTreeMap<String, u64> {
        &self.arms
    }

    /// Rows without an arm.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        self.arms.keys().map(|name| name.capacity() + 2 * size_of::<(String, u64)>()).sum()
    }
}

impl Summary for Counts {
    const KIND: Kind = Kind::Counts;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.dropped += other.dropped;
        other.arms.iter().try_for_each(|(arm, &rows)| self.add(arm, rows))
    }

    fn write(&self, out: &mut Writer) {
        out.varint(self.dropped);
        out.varint(self.arms.len() as u64);
        for (arm, &rows) in &self.arms {
            out.text(arm);
            out.varint(rows);
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let mut counts = Self { dropped: bytes.rows()?, ..Self::default() };
        for _ in 0..bytes.count(2)? {
            let arm = bytes.text()?;
            let rows = bytes.rows()?;
            if counts.arms.last_key_value().is_some_and(|(last, _)| *last >= arm) {
                return Err(Error::Damaged("the arms are not in order".into()));
            }
            counts.add(&arm, rows).map_err(|e| Error::Damaged(e.to_string()))?;
        }
        Ok(counts)
    }
}
