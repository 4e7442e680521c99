//! Adds the weights of units to the bins of their rows.

use crate::weights::{TILE_REPLICATES, Tile};

/// What adds. All of it gives the same sums.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scatter {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(super::avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(super::avx512::Avx512),
}

impl Scatter {
    /// What this processor has, the best last.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        [
            Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            super::avx2::Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            super::avx512::Avx512::detect().map(Self::Avx512),
        ]
        .into_iter()
        .flatten()
    }

    pub(crate) fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// Adds the weights of the tile's units to the sums of their places, 32 for each, in the order of the tile.
    pub(crate) fn add(self, tile: &Tile, places: &[u32], sums: &mut [u16]) {
        match self {
            Self::Portable => add(tile, places, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.scatter(tile, places, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.scatter(tile, places, sums),
        }
    }
}

/// The weights of two units alternate in a row: they are the low and the high bytes of its words.
fn add(tile: &Tile, places: &[u32], sums: &mut [u16]) {
    let sums = sums.as_chunks_mut::<TILE_REPLICATES>().0;
    for (row, pair) in tile.0.iter().zip(places.chunks(2)) {
        let words: [u16; TILE_REPLICATES] =
            std::array::from_fn(|i| u16::from_le_bytes([row[2 * i], row[2 * i + 1]]));
        let first = &mut sums[pair[0] as usize];
        for (sum, word) in first.iter_mut().zip(words) {
            *sum = sum.wrapping_add(word & 255);
        }
        if let Some(&second) = pair.get(1) {
            let second = &mut sums[second as usize];
            for (sum, word) in second.iter_mut().zip(words) {
                *sum = sum.wrapping_add(word >> 8);
            }
        }
    }
}
