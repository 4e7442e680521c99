//! The moments of each stratum of one arm, whose rows are units.

use std::collections::BTreeMap;

use super::labels::Labels;
use super::moments::{Columns, Moments, MomentsTable};
use super::{Kind, Reader, Rows, Summary, Table, Writer};
use crate::{Error, Result};

/// The stratum of each row. Rows without any are of the stratum that has no label.
#[derive(Debug, Clone, Copy, Default)]
pub struct Strata<'a> {
    /// Labels, of which some may be those of no row; `None` is a stratum of its own.
    pub labels: &'a [Option<String>],
    /// The place of each row's label.
    pub of: &'a [u32],
}

/// [`Moments`] by stratum: what a stratified comparison is made of.
///
/// Strata are known by their labels; units without a label, whose stratum is NULL, are a stratum of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct StratifiedMoments {
    columns: Columns,
    dropped: u64,
    strata: BTreeMap<Option<String>, Moments>,
}

impl StratifiedMoments {
    /// The summary of no rows.
    pub fn new(columns: Columns) -> Self {
        Self { columns, dropped: 0, strata: BTreeMap::new() }
    }

    /// Its outcomes and covariates.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Rows counted.
    pub fn n(&self) -> u64 {
        self.strata.values().map(Moments::n).sum()
    }

    /// Rows left out because an outcome was NULL (or a covariate, where those are dropped).
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The moments of each stratum that has rows, by label.
    pub fn strata(&self) -> &BTreeMap<Option<String>, Moments> {
        &self.strata
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        let stratum = |(label, moments): (&Option<String>, &Moments)| {
            let label = label.as_ref().map_or(0, String::capacity);
            size_of::<(Option<String>, Moments)>() + label + moments.heap_size()
        };
        self.strata.iter().map(stratum).sum()
    }
}

impl Summary for StratifiedMoments {
    const KIND: Kind = Kind::StratifiedMoments;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.columns.check_same(&other.columns)?;
        self.dropped += other.dropped;
        for (label, theirs) in &other.strata {
            match self.strata.get_mut(label) {
                Some(mine) => mine.merge(theirs)?,
                None => drop(self.strata.insert(label.clone(), theirs.clone())),
            }
        }
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        out.varint(self.dropped);
        out.varint(self.strata.len() as u64);
        for (label, moments) in &self.strata {
            out.u8(label.is_some().into());
            label.iter().for_each(|label| out.text(label));
            moments.write_content(out);
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let mut summary = Self::new(Columns::read(bytes)?);
        summary.dropped = bytes.rows()?;
        for _ in 0..bytes.count(3)? {
            let label = if bytes.flag()? { Some(bytes.text()?) } else { None };
            let moments = Moments::read_content(summary.columns.clone(), bytes)?;
            let last = summary.strata.last_key_value();
            if last.is_some_and(|(last, _)| *last >= label) {
                return Err(Error::Damaged("the strata are not in order".into()));
            }
            if moments.n() == 0 || moments.dropped() > 0 {
                return Err(Error::Damaged("a stratum has no rows".into()));
            }
            summary.strata.insert(label, moments);
        }
        super::codec::check_rows(summary.n())?;
        Ok(summary)
    }
}

/// The stratified moments of many slots.
#[derive(Debug)]
pub struct StratifiedTable {
    columns: Columns,
    labels: Labels<Option<String>>,
    /// A slot of its own for each stratum of a slot.
    moments: MomentsTable,
    /// How many there are, and which of them are not used.
    made: u32,
    free: Vec<u32>,
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    dropped: u64,
    /// By the number of the label, the place in the table of moments.
    strata: BTreeMap<u32, u32>,
}

impl StratifiedTable {
    /// A table without slots.
    pub fn new(columns: Columns) -> Self {
        Self {
            labels: Labels::default(),
            moments: MomentsTable::new(columns.clone()),
            made: 0,
            free: Vec::new(),
            slots: Vec::new(),
            columns,
        }
    }

    /// Counts rows that were left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.slots[slot].dropped += rows;
    }

    /// The place of a stratum of a slot in the table of moments.
    fn place(&mut self, slot: usize, label: u32) -> u32 {
        let Self { moments, made, free, slots, .. } = self;
        *slots[slot].strata.entry(label).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                *made += 1;
                moments.resize(*made as usize);
                *made - 1
            })
        })
    }
}

impl Table for StratifiedTable {
    type Summary = StratifiedMoments;

    fn resize(&mut self, slots: usize) {
        self.slots.resize_with(slots, Slot::default);
    }

    fn update(&mut self, rows: Rows<'_>) {
        if rows.slots.is_empty() {
            return;
        }
        let Strata { labels, of } = rows.strata;
        // Labels of no row are not looked at: a dictionary may have many of them.
        let mut numbers = vec![None; labels.len()];
        let mut places = Vec::with_capacity(rows.slots.len());
        for (r, &slot) in rows.slots.iter().enumerate() {
            let number = match of.get(r) {
                None => self.labels.number(&None),
                Some(&at) => {
                    let at = at as usize;
                    *numbers[at].get_or_insert_with(|| self.labels.number(&labels[at]))
                }
            };
            places.push(self.place(slot as usize, number));
        }
        self.moments.update(Rows { slots: &places, ..rows });
    }

    fn merge(&mut self, slot: usize, summary: &StratifiedMoments) -> Result<()> {
        self.columns.check_same(&summary.columns)?;
        self.slots[slot].dropped += summary.dropped;
        for (label, moments) in &summary.strata {
            let number = self.labels.number(label);
            let place = self.place(slot, number);
            self.moments.merge(place as usize, moments)?;
        }
        Ok(())
    }

    fn get(&self, slot: usize) -> StratifiedMoments {
        let Slot { dropped, strata } = &self.slots[slot];
        let stratum = |(&label, &place): (&u32, &u32)| {
            (self.labels.names()[label as usize].clone(), self.moments.get(place as usize))
        };
        StratifiedMoments {
            columns: self.columns.clone(),
            dropped: *dropped,
            strata: strata.iter().map(stratum).collect(),
        }
    }

    fn drop_first(&mut self, n: usize) {
        for place in self.slots.drain(..n).flat_map(|slot| slot.strata.into_values()) {
            self.moments.clear(place);
            self.free.push(place);
        }
    }

    fn size(&self) -> usize {
        let strata: usize = self.slots.iter().map(|slot| slot.strata.len()).sum();
        size_of::<Self>()
            + self.moments.size()
            + self.labels.heap_size()
            + self.free.capacity() * size_of::<u32>()
            + self.slots.capacity() * size_of::<Slot>()
            + 2 * strata * size_of::<(u32, u32)>()
    }
}
