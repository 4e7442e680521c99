//! The sums of the weights of many units.

#[cfg(target_arch = "x86_64")]
use super::{Engine, laws::Inner};
use super::{Row, TILE_ORDER, TILE_REPLICATES, TILE_UNITS, Tile, Units, Weights};
use crate::wide::wide;

/// Sums have whole blocks of so many replicates.
pub(crate) const SUMMED_REPLICATES: usize = 64;

/// Units whose Poisson weights add up within a byte.
#[cfg(any(target_arch = "x86_64", test))]
pub(super) const UNITS_OF_A_BYTE: usize = 255 / (super::LAW.len() - 1);

/// Units in the order of bins, with the sums of the weights of each bin.
pub(super) struct Binned<'a> {
    /// Of all units.
    pub(super) keys: &'a [u64],
    /// By bin, how many of the units are in it.
    pub(super) counts: &'a [u32],
    /// By bin and replicate.
    pub(super) sums: &'a mut [[u16; SUMMED_REPLICATES]],
}

impl Binned<'_> {
    /// Blocks of replicates of a bin.
    pub(super) fn blocks(&self) -> usize {
        self.sums.len() / self.counts.len().max(1)
    }

    /// The units and the sums of every bin that has units.
    pub(super) fn bins(
        &mut self,
    ) -> impl Iterator<Item = (&[u64], &mut [[u16; SUMMED_REPLICATES]])> {
        let blocks = self.blocks().max(1);
        let mut keys = self.keys;
        let bins = self.counts.iter().zip(self.sums.chunks_exact_mut(blocks));
        bins.filter(|(count, _)| **count > 0).map(move |(&count, sums)| {
            let (of_bin, rest) = keys.split_at(count as usize);
            keys = rest;
            (of_bin, sums)
        })
    }
}

impl Weights {
    /// Adds the weights of units to the sums of their bins, modulo `2^16`: the keys are in the order of bins, of which each
    /// has as many as its count; the sums are by bin, of as many replicates each, in whole blocks of
    /// [`SUMMED_REPLICATES`].
    pub(crate) fn add(&self, keys: &[u64], counts: &[u32], sums: &mut [[u16; SUMMED_REPLICATES]]) {
        let mut binned = Binned { keys, counts, sums };
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Inner::Poisson(weights) if let Engine::Vaes512(_, vaes) = weights.engine => {
                vaes.add(weights.whitening, binned);
            }
            #[cfg(target_arch = "x86_64")]
            Inner::Poisson(weights) if let Engine::Vaes(vaes) = weights.engine => {
                vaes.add(weights.whitening, binned);
            }
            _ => {
                let mut drawn = (Units::default(), Tile::new());
                binned.bins().for_each(|(keys, sums)| self.add_tiles(keys, sums, &mut drawn));
            }
        }
    }

    /// Adds the weights of units to the sums of one bin, by way of a tile.
    fn add_tiles(
        &self,
        keys: &[u64],
        sums: &mut [[u16; SUMMED_REPLICATES]],
        (units, tile): &mut (Units, Tile),
    ) {
        for keys in keys.chunks(TILE_UNITS) {
            units.set(self, keys.iter().copied());
            let tiles = sums.as_flattened_mut().as_chunks_mut::<TILE_REPLICATES>().0;
            for (t, sums) in (0..).zip(tiles) {
                self.tile(units, 0..units.len(), t, tile);
                add_tile(&tile.0, keys.len(), sums);
            }
        }
    }
}

wide! {
    /// Adds the weights of the first units of a tile to the sums of its replicates.
    fn add_tile(rows: &[Row], units: usize, sums: &mut [u16; TILE_REPLICATES]) {
        let mut in_order = [0; TILE_REPLICATES];
        let (pairs, odd) = rows[..units.div_ceil(2)].split_at(units / 2);
        for row in pairs {
            for (sum, weights) in in_order.iter_mut().zip(row.as_chunks::<2>().0) {
                *sum += u16::from(weights[0]) + u16::from(weights[1]);
            }
        }
        for row in odd {
            for (sum, weights) in in_order.iter_mut().zip(row.as_chunks::<2>().0) {
                *sum += u16::from(weights[0]);
            }
        }
        for (sum, &replicate) in in_order.iter().zip(&TILE_ORDER) {
            let total = &mut sums[usize::from(replicate)];
            *total = total.wrapping_add(*sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units;
    use crate::weights::laws::Inner;
    use crate::weights::{Engine, Law, PoissonWeights, key_of};

    /// Bins of no unit, of one, of as many as a byte holds, of more, and of more than a tile has.
    const COUNTS: [u32; 10] = [1, 0, 2, 31, 32, 62, 63, 64, 131, TILE_UNITS as u32 + 3];

    fn every_engine(law: Law, seed: u64) -> impl Iterator<Item = Weights> {
        let best = Weights::new(law, seed);
        let engines = Engine::available().filter(move |_| law == Law::Poisson);
        let poisson = engines.map(move |engine| match best.0 {
            Inner::Poisson(weights) => {
                Weights(Inner::Poisson(PoissonWeights { engine, ..weights }))
            }
            other => Weights(other),
        });
        poisson.chain([best])
    }

    #[test]
    fn sums_of_bins_are_those_of_the_weights_of_their_units() {
        let hashes: Vec<u128> =
            (0..COUNTS.iter().sum::<u32>()).map(|u| units::integer(u.into())).collect();
        let keys: Vec<u64> = hashes.iter().map(|&hash| key_of(hash)).collect();
        for law in Law::ALL.into_iter().chain([Law::Assignment(6554)]) {
            for blocks in [1, 4, 5, 16] {
                let replicates = blocks * SUMMED_REPLICATES;
                let mut expected = vec![7; COUNTS.len() * replicates];
                let mut units = hashes.iter();
                for (&count, sums) in COUNTS.iter().zip(expected.chunks_mut(replicates)) {
                    let mut row = vec![0; replicates];
                    for &hash in units.by_ref().take(count as usize) {
                        Weights::new(law, 3).fill(hash, &mut row);
                        sums.iter_mut().zip(&row).for_each(|(sum, &w)| *sum += u16::from(w));
                    }
                }
                for weights in every_engine(law, 3) {
                    let mut sums = vec![[7; SUMMED_REPLICATES]; COUNTS.len() * blocks];
                    weights.add(&keys, &COUNTS, &mut sums);
                    assert_eq!(sums.as_flattened(), expected, "{weights:?}");
                }
            }
        }
    }

    #[test]
    fn the_largest_weights_of_a_byte_fit() {
        let largest = usize::from(Law::Poisson.largest());
        assert!(UNITS_OF_A_BYTE * largest <= 255);
    }

    #[test]
    fn no_bins_are_no_sums() {
        Weights::new(Law::Poisson, 0).add(&[], &[], &mut []);
    }
}
