//! The weights of a block of units, in the parts that are multiplied.

use std::ops::Range;

use crate::weights::{Law, TILE_REPLICATES, Tile, Units, Weights, key_of};

/// Bits of a part.
const PART_BITS: u32 = 4;

/// The largest weight that is multiplied as it is.
const LARGEST_WHOLE: u32 = 8;

/// Draws the weights of units: of one factor, or products of those of two crossed factors, whose keys are the two
/// halves of a unit.
#[derive(Debug)]
pub(crate) struct Draw {
    law: Law,
    factors: Vec<Factor>,
    /// The weights of the tile that was drawn last, part by part.
    parts: Vec<Tile>,
}

#[derive(Debug)]
struct Factor {
    weights: Weights,
    units: Units,
    tile: Box<Tile>,
}

impl Draw {
    pub(crate) fn new(law: Law, seed: u64, crossed: bool) -> Self {
        let factors = if crossed { 2 } else { 1 };
        let largest = u32::from(law.largest()).pow(factors);
        let bits = u32::BITS - largest.leading_zeros();
        let parts = if largest <= LARGEST_WHOLE { 1 } else { bits.div_ceil(PART_BITS) };
        let factor = |factor: u32| Factor {
            weights: Weights::of_factor(law, seed, factor as u8),
            units: Units::default(),
            tile: Box::new(Tile::new()),
        };
        Self {
            law,
            factors: (0..factors).map(factor).collect(),
            parts: vec![Tile::new(); parts as usize],
        }
    }

    /// Weights are in units of `2^-scale`.
    pub(crate) fn scale(&self) -> i32 {
        self.law.scale() as i32 * self.factors.len() as i32
    }

    /// The number of parts.
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Bits of the weights beyond those of a whole one.
    pub(crate) fn headroom(&self) -> u32 {
        PART_BITS * (self.parts.len() as u32 - 1) + u32::from(self.parts.len() > 1)
    }

    /// Takes the units of a block, in groups of four: those that are added have weights and no values.
    pub(crate) fn set_units(&mut self, units: &[u128]) {
        for (factor, shift) in self.factors.iter_mut().zip([0, 64]) {
            factor.units.set(&factor.weights, units.iter().map(|&unit| key_of(unit << shift)));
        }
    }

    /// The weights of some of the units for the `t`-th 32 replicates: the weight is `Σ part_p · 16^p`.
    pub(crate) fn tiles(&mut self, units: Range<usize>, t: u64) -> &[Tile] {
        let parts = self.parts.len();
        match (&mut self.factors[..], &mut self.parts[..]) {
            ([factor], [tile]) => factor.weights.tile(&factor.units, units, t, tile),
            (factors, tiles) => {
                let rows = units.len() / 2;
                for factor in &mut *factors {
                    factor.weights.tile(&factor.units, units.clone(), t, &mut factor.tile);
                }
                for r in 0..rows {
                    let mut weights = [1u16; 2 * TILE_REPLICATES];
                    for factor in &*factors {
                        let row = weights.iter_mut().zip(&factor.tile.0[r]);
                        row.for_each(|(weight, &w)| *weight *= u16::from(w));
                    }
                    let mask = if parts == 1 { u16::MAX } else { (1 << PART_BITS) - 1 };
                    for (p, tile) in (0..).zip(&mut *tiles) {
                        let row = tile.0[r].iter_mut().zip(&weights);
                        row.for_each(|(part, weight)| {
                            *part = (weight >> (PART_BITS * p) & mask) as u8;
                        });
                    }
                }
            }
        }
        &self.parts
    }
}
