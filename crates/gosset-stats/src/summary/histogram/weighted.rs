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
        let mut body = Vec::new();
        self.for_each(replicates, |_, weights| {
            let largest = weights.iter().copied().max().unwrap_or(0);
            let width = (32 - largest.leading_zeros()).div_ceil(8) as usize;
            body.push(width as u8);
            match width {
                0 => {}
                1 => narrow::<1>(weights, &mut body),
                2 => narrow::<2>(weights, &mut body),
                3 => narrow::<3>(weights, &mut body),
                _ => narrow::<4>(weights, &mut body),
            }
        });
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
        let mut weights_of = vec![0; replicates];
        for bin in 0..weighted.grid.bins().len() {
            let (&width, rest) = body.split_first().ok_or_else(damaged)?;
            let width = usize::from(width);
            if width > 4 || rest.len() < width * replicates {
                return Err(damaged());
            }
            let (row, rest) = rest.split_at(width * replicates);
            body = rest;
            match width {
                0 => weights_of.fill(0),
                1 => widen::<1>(row, &mut weights_of),
                2 => widen::<2>(row, &mut weights_of),
                3 => widen::<3>(row, &mut weights_of),
                _ => widen::<4>(row, &mut weights_of),
            }
            let largest = weights_of.iter().fold(0, |largest, &weight| weight.max(largest));
            weighted.sums.set(bin, &weights_of);
            if (32 - largest.leading_zeros()).div_ceil(8) as usize != width {
                return Err(damaged());
            }
        }
        if body.is_empty() { Ok(weighted) } else { Err(damaged()) }
    }
}

/// Appends the low bytes of weights.
fn narrow<const WIDTH: usize>(weights: &[u32], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + WIDTH * weights.len(), 0);
    for (bytes, weight) in out[start..].as_chunks_mut::<WIDTH>().0.iter_mut().zip(weights) {
        bytes.copy_from_slice(&weight.to_le_bytes()[..WIDTH]);
    }
}

/// Reads what [`narrow`] wrote.
fn widen<const WIDTH: usize>(bytes: &[u8], out: &mut [u32]) {
    for (bytes, weight) in bytes.as_chunks::<WIDTH>().0.iter().zip(out) {
        let mut word = [0; 4];
        word[..WIDTH].copy_from_slice(bytes);
        *weight = u32::from_le_bytes(word);
    }
}
