//! Sums of the weights of bins, for every replicate.

use crate::resample::Scatter;
use crate::summary::replicates::Resampling;
use crate::weights::{TILE_ORDER, TILE_REPLICATES, TILE_UNITS, Tile, Weights};

/// By bin and replicate, the sum of weights.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    /// By 32 replicates: by bin, sums in the order of a tile, where new weights are added.
    narrow: Vec<Vec<u16>>,
    /// By bin, a bound of the rows in `narrow`: as many of the largest weight are no less than any of its sums.
    waiting: Vec<u32>,
    /// By bin, what was taken from `narrow`, by replicate; empty where nothing was.
    wide: Vec<Vec<u32>>,
    largest_weight: u32,
}

impl Sums {
    pub(super) fn new(resampling: &Resampling) -> Self {
        let tiles = (resampling.replicates as usize).div_ceil(TILE_REPLICATES);
        Self::of_no_bins(tiles, resampling.law.largest().into())
    }

    /// None, for as many replicates.
    pub(super) fn empty(&self) -> Self {
        Self::of_no_bins(self.narrow.len(), self.largest_weight)
    }

    fn of_no_bins(tiles: usize, largest_weight: u32) -> Self {
        let narrow = vec![Vec::new(); tiles];
        Self { narrow, waiting: Vec::new(), wide: Vec::new(), largest_weight }
    }

    pub(super) fn heap_size(&self) -> usize {
        let narrow: usize = self.narrow.iter().map(|s| s.capacity() * size_of::<u16>()).sum();
        let wide: usize = self.wide.iter().map(|s| s.capacity() * size_of::<u32>()).sum();
        narrow
            + wide
            + self.waiting.capacity() * size_of::<u32>()
            + self.wide.capacity() * size_of::<Vec<u32>>()
    }

    pub(super) fn bins(&self) -> usize {
        self.waiting.len()
    }

    /// Gives so many bins a place.
    pub(super) fn resize(&mut self, bins: usize) {
        self.waiting.resize(bins, 0);
        self.wide.resize(bins, Vec::new());
        self.narrow.iter_mut().for_each(|narrow| narrow.resize(bins * TILE_REPLICATES, 0));
    }

    /// The most rows of a bin that may be added at once.
    pub(super) fn most(&self) -> u32 {
        u32::from(u16::MAX) / self.largest_weight
    }

    /// Makes sure that `narrow` holds so many more rows of a bin, at most [`most`](Self::most).
    fn reserve(&mut self, bin: usize, rows: u32) {
        if self.waiting[bin] + rows > self.most() {
            self.wide(bin);
            let tiles = self.wide[bin].as_chunks_mut::<TILE_REPLICATES>().0;
            for (wide, narrow) in tiles.iter_mut().zip(&mut self.narrow) {
                let narrow = &mut narrow.as_chunks_mut::<TILE_REPLICATES>().0[bin];
                add_in_order(wide, narrow);
                narrow.fill(0);
            }
            self.waiting[bin] = 0;
        }
        self.waiting[bin] += rows;
    }

    fn wide(&mut self, bin: usize) -> &mut [u32] {
        let wide = &mut self.wide[bin];
        wide.resize(self.narrow.len() * TILE_REPLICATES, 0);
        wide
    }

    /// Adds the weights of units, of which there are `counts` by bin; in the order of bins, so that those of one bin are
    /// added in registers. The keys are padded to whole fours.
    pub(super) fn add_rows(
        &mut self,
        keys: &[u64],
        places: &[u32],
        counts: &[u32],
        weights: &Weights,
    ) {
        for (bin, &count) in counts.iter().enumerate() {
            self.reserve(bin, count);
        }
        let scatter = Scatter::detect();
        let mut tile = Box::new(Tile::new());
        let blocks: Vec<_> = keys.chunks(TILE_UNITS).zip(places.chunks(TILE_UNITS)).collect();
        for (t, narrow) in self.narrow.iter_mut().enumerate() {
            for (keys, places) in &blocks {
                weights.tile(keys, t as u64, &mut tile);
                scatter.add(&tile, places, narrow);
            }
        }
    }

    /// Adds the sums of other bins to those at their places.
    pub(super) fn add(&mut self, other: &Self, places: &[u32]) {
        for (bin, &to) in places.iter().enumerate().take(other.bins()) {
            let to = to as usize;
            if !other.wide[bin].is_empty() {
                let sums = self.wide(to).iter_mut().zip(&other.wide[bin]);
                sums.for_each(|(sum, other)| *sum += other);
            }
            if other.waiting[bin] == 0 {
                continue;
            }
            self.reserve(to, other.waiting[bin]);
            for (narrow, other) in self.narrow.iter_mut().zip(&other.narrow) {
                let narrow = &mut narrow.as_chunks_mut::<TILE_REPLICATES>().0[to];
                let other = &other.as_chunks::<TILE_REPLICATES>().0[bin];
                narrow.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
            }
        }
    }

    /// Writes the sums of a bin to those of whole tiles of replicates.
    pub(super) fn get(&self, bin: usize, sums: &mut Vec<u32>) {
        sums.clear();
        sums.extend_from_slice(&self.wide[bin]);
        sums.resize(self.narrow.len() * TILE_REPLICATES, 0);
        for (sums, narrow) in sums.as_chunks_mut().0.iter_mut().zip(&self.narrow) {
            add_in_order(sums, &narrow.as_chunks().0[bin]);
        }
    }

    /// Sets the sums of a bin that has none.
    pub(super) fn set(&mut self, bin: usize, sums: &[u32]) {
        let largest = sums.iter().fold(0, |largest, &sum| sum.max(largest));
        let rows = largest.div_ceil(self.largest_weight);
        if rows > self.most() {
            self.wide(bin)[..sums.len()].copy_from_slice(sums);
            return;
        }
        self.waiting[bin] = rows;
        for (narrow, sums) in self.narrow.iter_mut().zip(sums.chunks(TILE_REPLICATES)) {
            let narrow = &mut narrow.as_chunks_mut::<TILE_REPLICATES>().0[bin];
            for (narrow, &replicate) in narrow.iter_mut().zip(&TILE_ORDER) {
                *narrow = sums.get(usize::from(replicate)).map_or(0, |&sum| sum as u16);
            }
        }
    }
}

/// Adds sums in the order of a tile to those in the order of replicates.
fn add_in_order(sums: &mut [u32; TILE_REPLICATES], narrow: &[u16; TILE_REPLICATES]) {
    for (eight, order) in narrow.as_chunks::<8>().0.iter().zip(TILE_ORDER.as_chunks::<8>().0) {
        let start = usize::from(order[0]);
        sums[start..start + 8].iter_mut().zip(eight).for_each(|(sum, &n)| *sum += u32::from(n));
    }
}
