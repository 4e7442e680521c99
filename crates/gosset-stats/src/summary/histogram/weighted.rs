//! Bins whose rows are weighted for every replicate, unit by unit.

use super::grid::Grid;
use super::sums::Sums;
use crate::summary::replicates::Resampling;
use crate::summary::{Reader, Writer};
use crate::weights::{Weights, key_of};
use crate::{Error, Result};

/// Rows that are weighted together: many of a bin.
const BLOCK: usize = 1 << 17;

/// The weights of the bins of a grid.
#[derive(Debug, Clone)]
pub(super) struct Weighted {
    pub(super) grid: Grid,
    sums: Sums,
}

impl Weighted {
    pub(super) fn new(precision: u32, resampling: &Resampling) -> Self {
        Self { grid: Grid::new(precision), sums: Sums::new(resampling) }
    }

    pub(super) fn heap_size(&self) -> usize {
        size_of::<Self>() + self.grid.heap_size() + self.sums.heap_size()
    }

    /// Gives new bins a place.
    fn make_room(&mut self) {
        let bins = self.grid.bins().len();
        if self.sums.bins() < bins {
            self.sums.resize(bins);
        }
    }

    /// Adds finite values of units.
    pub(super) fn add(&mut self, rows: &[(u128, f64)], resampling: &Resampling) {
        let weights = Weights::new(resampling.law, resampling.seed);
        let most = self.sums.most();
        for rows in rows.chunks(BLOCK) {
            let mut places = Vec::with_capacity(rows.len());
            for &(_, x) in rows {
                let place = self.place(x, 1, &mut places);
                places.push(place);
            }
            self.make_room();
            let mut counts = vec![0; self.sums.bins()];
            places.iter().for_each(|&place| counts[place as usize] += 1);
            if counts.iter().all(|&count| count <= most) {
                self.add_placed(rows, &places, &counts, &weights);
                continue;
            }
            // More rows of one value than its narrow sums hold.
            for (rows, places) in rows.chunks(most as usize).zip(places.chunks(most as usize)) {
                counts.fill(0);
                places.iter().for_each(|&place| counts[place as usize] += 1);
                self.add_placed(rows, places, &counts, &weights);
            }
        }
    }

    /// Adds rows whose bins are known, of each at most as many as may be added at once.
    fn add_placed(
        &mut self,
        rows: &[(u128, f64)],
        places: &[u32],
        counts: &[u32],
        weights: &Weights,
    ) {
        let mut next = 0;
        let mut starts: Vec<u32> = counts
            .iter()
            .map(|count| {
                next += count;
                next - count
            })
            .collect();
        let mut keys = vec![0; rows.len()];
        for (&(unit, _), &place) in rows.iter().zip(places) {
            let at = &mut starts[place as usize];
            keys[*at as usize] = key_of(unit);
            *at += 1;
        }
        self.sums.add_rows(&keys, counts, weights);
    }

    /// The bin of a value. Where all bins move, so do the places of the rows before.
    fn place(&mut self, x: f64, rows: u64, places: &mut [u32]) -> u32 {
        let mut moved = None;
        let place = self.grid.add(x, rows, |to, bins| moved = Some((to.to_vec(), bins)));
        if let Some((to, bins)) = moved {
            places.iter_mut().for_each(|place| *place = to[*place as usize]);
            self.move_bins(&to, bins);
        }
        place
    }

    /// Adds up the bins that have become one.
    fn move_bins(&mut self, to: &[u32], bins: usize) {
        let mut moved = self.sums.empty();
        moved.resize(bins);
        moved.add(&self.sums, to);
        self.sums = moved;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let mut moves = Vec::new();
        let places = self.grid.merge(&other.grid, |to, bins| moves.push((to.to_vec(), bins)));
        for (to, bins) in moves {
            // The last bin may be new: it has no weights yet.
            let known = to.len().min(self.sums.bins());
            self.move_bins(&to[..known], bins);
        }
        self.make_room();
        self.sums.add(&other.sums, &places);
    }

    /// Calls `f` with the place of every bin in ascending order and the weights of the replicates.
    pub(super) fn for_each(&self, replicates: usize, mut f: impl FnMut(u32, &[u32])) {
        let mut weights = Vec::new();
        for place in self.grid.sorted() {
            self.sums.get(place as usize, &mut weights);
            f(place, &weights[..replicates]);
        }
    }

    /// Appends the bins and, for each, the weights in as many bytes as the largest needs.
    pub(super) fn write(&self, replicates: usize, out: &mut Writer) {
        self.grid.write(out);
        let mut body = Vec::with_capacity(self.grid.bins().len() * (1 + 2 * replicates));
        for place in self.grid.sorted() {
            self.sums.write(place as usize, replicates, &mut body);
        }
        out.blob(&body);
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(super) fn read(
        bytes: &mut Reader<'_>,
        precision: u32,
        resampling: &Resampling,
    ) -> Result<Self> {
        let damaged = || Error::Damaged("the weights of the bins are not whole".into());
        let replicates = resampling.replicates as usize;
        let mut weighted =
            Self { grid: Grid::read(bytes, precision)?, ..Self::new(precision, resampling) };
        weighted.make_room();
        let mut body = bytes.blob()?;
        for bin in 0..weighted.grid.bins().len() {
            body = weighted.sums.read(bin, replicates, body).ok_or_else(damaged)?;
        }
        if body.is_empty() { Ok(weighted) } else { Err(damaged()) }
    }
}
