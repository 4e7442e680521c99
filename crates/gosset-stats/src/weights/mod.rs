//! Resampling weights that are a pure function of seed, unit and replicate.
//!
//! The weights of the Poisson bootstrap: draws of a law that is Poisson(1) up to 16 bits (mean 1 and variance 1
//! exactly, total variation 3.7e-5), keyed by unit, so that every machine, thread and day draws the same. They are
//! published numbers: a change of any of them is value-breaking.
//!
//! A block of 16 bytes is `(upper half of the unit's hash ‖ counter)`, whitened with a constant and with the seed's
//! key, then five rounds of AES. Blocks `2p` and `2p + 1` hold the high and the low bytes of the 16-bit draws of
//! replicates `16p` to `16p + 15`; a draw picks one of 16 columns of an alias table by its top 4 bits and decides between
//! the two values of the column by the other 12.
//!
//! The module `portable` says what that means and is what the vector forms, chosen when the weights are made, are compared with.

#[cfg(target_arch = "aarch64")]
mod arm;
mod laws;
mod portable;
mod sums;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_512;

use std::ops::Range;

pub use laws::{Law, Weights};
pub(crate) use sums::SUMMED_REPLICATES;

/// Counts out of 65536 of the weights 0 to 8.
const LAW: [u32; 9] = [24109, 24110, 12055, 4017, 1005, 201, 34, 4, 1];

/// Constants of the rounds: SHAKE-128 of "gosset bootstrap weights v1".
const ROUND_KEYS: [[u8; 16]; 6] = include!("keys.in");

/// What marks the block that a seed's key is made of; above its 32 bits are the law and the factor.
const SEED_MARK: u64 = 0x7365_6564;

/// One column of the alias table: draws below the threshold give `base`, the others `alias`.
#[derive(Debug, Clone, Copy)]
struct Column {
    threshold: u16,
    base: u8,
    alias: u8,
}

const TABLE: [Column; 16] = alias_table();

const fn alias_table() -> [Column; 16] {
    let mut left = LAW;
    let mut table = [Column { threshold: 0, base: 0, alias: 0 }; 16];
    let mut c = 0;
    while c < 16 {
        let (mut low, mut high) = (LAW.len(), 0);
        let mut i = 0;
        while i < LAW.len() {
            if left[i] > 0 && (low == LAW.len() || left[i] < left[low]) {
                low = i;
            }
            if left[i] > left[high] {
                high = i;
            }
            i += 1;
        }
        if left[low] >= 4096 {
            low = high;
        }
        let taken = if left[low] < 4096 { left[low] } else { 4096 };
        left[low] -= taken;
        left[high] -= 4096 - taken;
        table[c] = Column { threshold: (4096 - taken) as u16, base: high as u8, alias: low as u8 };
        c += 1;
    }
    table
}

/// The table as vectors hold it: by column, the base, what the alias adds to it, and both bytes of the threshold.
#[derive(Debug)]
struct ByteTable {
    base: [u8; 16],
    delta: [u8; 16],
    high: [u8; 16],
    low: [u8; 16],
}

const BYTES: ByteTable = {
    let mut bytes = ByteTable { base: [0; 16], delta: [0; 16], high: [0; 16], low: [0; 16] };
    let mut c = 0;
    while c < 16 {
        let Column { threshold, base, alias } = TABLE[c];
        bytes.base[c] = base;
        bytes.delta[c] = alias.wrapping_sub(base);
        bytes.high[c] = (threshold >> 8) as u8;
        bytes.low[c] = threshold as u8;
        c += 1;
    }
    bytes
};

/// Units of a [`Tile`].
pub(crate) const TILE_UNITS: usize = 256;

/// Replicates of a [`Tile`].
pub(crate) const TILE_REPLICATES: usize = 32;

/// The weights of two units for 32 replicates: those of the two alternate, and the replicates are in the order of
/// [`TILE_ORDER`], as vectors interleave them.
pub(crate) type Row = [u8; 2 * TILE_REPLICATES];

/// The weights of [`TILE_UNITS`] units for 32 replicates: a row for each pair of units.
#[derive(Debug, Clone)]
#[repr(align(32))]
pub(crate) struct Tile(pub(crate) [Row; TILE_UNITS / 2]);

impl Tile {
    /// A tile of zeros.
    pub(crate) const fn new() -> Self {
        Self([[0; size_of::<Row>()]; TILE_UNITS / 2])
    }
}

/// The replicate at each place of a tile's row.
pub(crate) const TILE_ORDER: [u8; TILE_REPLICATES] = {
    let mut order = [0; TILE_REPLICATES];
    let mut i = 0;
    while i < TILE_REPLICATES {
        // The eights 0, 2, 1, 3.
        order[i] = [0, 16, 8, 24][i / 8] + (i % 8) as u8;
        i += 1;
    }
    order
};

/// What a tile holds: Poisson weights, or the high or the low bytes of the draws of 16 bits.
const WEIGHTS: u8 = 0;
const HIGH: u8 = 1;
const LOW: u8 = 2;

/// What draws. All of it draws the same.
#[derive(Debug, Clone, Copy)]
enum Engine {
    Portable,
    #[cfg(target_arch = "x86_64")]
    AesNi(x86::AesNi),
    #[cfg(target_arch = "x86_64")]
    Vaes(x86::Vaes),
    #[cfg(target_arch = "x86_64")]
    Vaes512(x86::Vaes, x86_512::Vaes512),
    #[cfg(target_arch = "aarch64")]
    Arm(arm::Arm),
}

impl Engine {
    fn best() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable code",
            #[cfg(target_arch = "x86_64")]
            Self::AesNi(_) => "AES-NI",
            #[cfg(target_arch = "x86_64")]
            Self::Vaes(_) => "VAES",
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512(..) => "VAES of AVX-512",
            #[cfg(target_arch = "aarch64")]
            Self::Arm(_) => "ARM AES",
        }
    }

    /// What this processor has, the best last.
    fn available() -> impl Iterator<Item = Self> {
        [
            Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            x86::AesNi::detect().map(Self::AesNi),
            #[cfg(target_arch = "x86_64")]
            x86::Vaes::detect().map(Self::Vaes),
            #[cfg(target_arch = "x86_64")]
            x86::Vaes::detect()
                .zip(x86_512::Vaes512::detect())
                .map(|(narrow, wide)| Self::Vaes512(narrow, wide)),
            #[cfg(target_arch = "aarch64")]
            arm::Arm::detect().map(Self::Arm),
        ]
        .into_iter()
        .flatten()
    }
}

/// The random block of a seed, the upper half of a unit's hash and a counter: what all weights are made of.
pub fn block(seed: u64, key: u64, counter: u64) -> [u8; 16] {
    portable::random(portable::whitening(seed, SEED_MARK), key, counter)
}

/// What draws Poisson weights on this processor.
pub fn kernel() -> &'static str {
    Engine::best().name()
}

/// The Poisson weights of one seed.
#[derive(Debug, Clone, Copy)]
pub struct PoissonWeights {
    whitening: [u8; 16],
    engine: Engine,
}

impl PoissonWeights {
    /// The weights of a seed.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Engine::best())
    }

    fn with(seed: u64, engine: Engine) -> Self {
        Self { whitening: portable::whitening(seed, SEED_MARK), engine }
    }

    /// The weights of a seed under another mark.
    fn marked(seed: u64, mark: u64) -> Self {
        Self { whitening: portable::whitening(seed, mark), ..Self::new(seed) }
    }

    /// Writes the weights of replicates `0..out.len()` of the unit with this hash.
    pub fn fill(&self, unit: u128, out: &mut [u8]) {
        let key = key_of(unit);
        match self.engine {
            Engine::Portable => portable::fill(self.whitening, key, out),
            #[cfg(target_arch = "x86_64")]
            Engine::AesNi(aes) => aes.fill(self.whitening, key, out),
            #[cfg(target_arch = "x86_64")]
            Engine::Vaes(vaes) | Engine::Vaes512(vaes, _) => vaes.fill(self.whitening, key, out),
            #[cfg(target_arch = "aarch64")]
            Engine::Arm(arm) => arm.fill(self.whitening, key, out),
        }
    }

    /// Draws the weights of units, at most [`TILE_UNITS`] and a multiple of four, for the `t`-th 32 replicates. The
    /// rows of further units stay as they are.
    fn tile(&self, units: &Units, range: Range<usize>, t: u64, tile: &mut Tile) {
        self.engine.rows::<WEIGHTS>(self.whitening, units, range, t, &mut tile.0);
    }
}

/// Units that tiles are drawn of.
#[derive(Debug, Default)]
pub(crate) struct Units {
    /// A multiple of four: those that are added are drawn and of no use.
    keys: Vec<u64>,
    /// What the first round makes of their halves of blocks, where that is where a tile starts from: it is the same for all
    /// replicates.
    started: Vec<Started>,
}

/// See [`Units::started`].
type Started = [u8; 16];

impl Units {
    /// Takes units whose weights, of the keys of these, are to be drawn.
    pub(crate) fn set(&mut self, weights: &Weights, keys: impl Iterator<Item = u64>) {
        self.keys.clear();
        self.keys.extend(keys);
        self.keys.resize(self.keys.len().next_multiple_of(4), 0);
        let (whitening, engine) = weights.source();
        engine.start(whitening, &self.keys, &mut self.started);
    }

    /// How many there are, with those that are added.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Engine {
    /// Does for units what is the same for all tiles.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "no other engine starts there")
    )]
    fn start(self, whitening: [u8; 16], keys: &[u64], started: &mut Vec<Started>) {
        started.clear();
        #[cfg(target_arch = "x86_64")]
        if let Self::Vaes512(_, vaes) = self {
            started.resize(keys.len(), [0; 16]);
            vaes.start(whitening, keys.as_chunks::<4>().0, started.as_chunks_mut::<4>().0);
        }
    }

    /// Draws what the rows of units hold, a multiple of four, for the `t`-th 32 replicates. Further rows stay as they are.
    fn rows<const OF: u8>(
        self,
        whitening: [u8; 16],
        units: &Units,
        range: Range<usize>,
        t: u64,
        rows: &mut [Row],
    ) {
        let keys = &units.keys[range.clone()];
        assert!(keys.len() <= 2 * rows.len(), "{} units in {} rows", keys.len(), rows.len());
        let (quads, rest) = keys.as_chunks::<4>();
        assert!(rest.is_empty(), "expected a multiple of four units, found {}", keys.len());
        let rows = &mut rows.as_chunks_mut::<2>().0[..quads.len()];
        match self {
            Self::Portable => portable::tile::<OF>(whitening, quads, t, rows),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi(aes) => aes.tile::<OF>(whitening, quads, t, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes(vaes) => vaes.tile::<OF>(whitening, quads, t, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes512(_, vaes) => {
                let started = units.started[range].as_chunks::<4>().0;
                vaes.tile::<OF>(whitening, started, t, rows);
            }
            #[cfg(target_arch = "aarch64")]
            Self::Arm(arm) => arm.tile::<OF>(whitening, quads, t, rows),
        }
    }
}

/// The part of a unit's hash that its weights depend on.
pub(crate) fn key_of(unit: u128) -> u64 {
    (unit >> 64) as u64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::laws::Inner;
    use super::*;

    #[test]
    fn alias_table_holds_the_law() {
        let mut counts = [0u32; 9];
        for column in TABLE {
            counts[usize::from(column.base)] += u32::from(column.threshold);
            counts[usize::from(column.alias)] += 4096 - u32::from(column.threshold);
        }
        assert_eq!(counts, LAW);
        let moment = |k: i32| -> f64 {
            LAW.iter().enumerate().map(|(w, &c)| f64::from(c) * (w as f64).powi(k)).sum::<f64>()
                / 65536.0
        };
        assert_eq!(moment(1), 1.0);
        assert_eq!(moment(2), 2.0);
    }

    #[test]
    fn weights_have_mean_and_variance_one_over_units_and_replicates() {
        let weights = PoissonWeights::new(1);
        let (units, replicates) = (2000, 500);
        let mut draws = vec![0u8; replicates];
        let (mut sum, mut squares) = (0u64, 0u64);
        for unit in 0..units {
            weights.fill(crate::units::integer(unit), &mut draws);
            sum += draws.iter().map(|&w| u64::from(w)).sum::<u64>();
            squares += draws.iter().map(|&w| u64::from(w).pow(2)).sum::<u64>();
        }
        let n = (units as usize * replicates) as f64;
        // Standard errors: sd(w) = 1 and sd(w²) = √(E w⁴ − 4) = √11.
        assert!((sum as f64 / n - 1.0).abs() < 5.0 / n.sqrt());
        assert!((squares as f64 / n - 2.0).abs() < 5.0 * (11.0 / n).sqrt());
    }

    /// Neighbours in any direction have nothing to do with each other, for keys that are hashed, count up, or differ in high
    /// bits alone.
    #[test]
    fn weights_of_units_replicates_and_seeds_are_independent() {
        let (units, replicates) = (1000usize, 512);
        let kinds: [fn(u64) -> u128; 3] = [
            |i| crate::units::integer(i.into()),
            |i| u128::from(i) << 64,
            |i| u128::from(i << 40) << 64,
        ];
        for hash in kinds {
            let drawn = |seed: u64| -> Vec<Vec<f64>> {
                let weights = PoissonWeights::new(seed);
                (0..units as u64)
                    .map(|i| {
                        let mut row = vec![0; replicates];
                        weights.fill(hash(i), &mut row);
                        row.into_iter().map(|w| f64::from(w) - 1.0).collect()
                    })
                    .collect()
            };
            let (here, there) = (drawn(1), drawn(2));
            let covariance = |pairs: Vec<(f64, f64)>| {
                let n = pairs.len() as f64;
                // A product of two independent weights has variance 1.
                pairs.iter().map(|(a, b)| a * b).sum::<f64>() / n.sqrt()
            };
            let at = |u: usize, b: usize| here[u % units][b % replicates];
            for (du, db) in [(1, 0), (0, 1), (1, 1), (2, 0), (0, 16), (0, 32), (64, 0), (1, 511)] {
                let pairs = (0..units)
                    .flat_map(|u| (0..replicates).map(move |b| (u, b)))
                    .map(|(u, b)| (at(u, b), at(u + du, b + db)));
                let z = covariance(pairs.collect());
                assert!(z.abs() < 5.0, "{du} units and {db} replicates apart: {z}");
            }
            let seeds = here.iter().flatten().copied().zip(there.iter().flatten().copied());
            let z = covariance(seeds.collect());
            assert!(z.abs() < 5.0, "seeds: {z}");
        }
    }

    #[test]
    fn every_engine_draws_the_same() {
        for seed in [0, 7, u64::MAX] {
            for engine in Engine::available() {
                let (plain, fast) = (
                    PoissonWeights::with(seed, Engine::Portable),
                    PoissonWeights::with(seed, engine),
                );
                for length in (0..300).chain([1000, 1024, 5001]) {
                    let unit = crate::units::integer(length as i128);
                    let (mut expected, mut found) = (vec![0; length], vec![255; length]);
                    plain.fill(unit, &mut expected);
                    fast.fill(unit, &mut found);
                    assert_eq!(found, expected, "{engine:?}");
                }
            }
        }
    }

    #[test]
    fn tiles_hold_the_weights_of_their_units() {
        let hashes: Vec<u128> = (0..TILE_UNITS as i128).map(crate::units::integer).collect();
        let keys = hashes.iter().map(|&hash| key_of(hash));
        for engine in Engine::available() {
            let weights = PoissonWeights::with(3, engine);
            let mut all = Units::default();
            all.set(&Weights(Inner::Poisson(weights)), keys.clone());
            for (units, t) in [(TILE_UNITS, 0), (64, 31), (12, 1), (4, 3124), (0, 2)] {
                let mut tile = Tile::new();
                weights.tile(&all, 0..units, t, &mut tile);
                let mut row = vec![0; (t as usize + 1) * TILE_REPLICATES];
                for (u, &hash) in hashes.iter().enumerate() {
                    if u < units {
                        weights.fill(hash, &mut row);
                    } else {
                        row.fill(0);
                    }
                    for (place, &replicate) in TILE_ORDER.iter().enumerate() {
                        let expected = row[t as usize * TILE_REPLICATES + usize::from(replicate)];
                        assert_eq!(tile.0[u / 2][2 * place + u % 2], expected, "{engine:?}");
                    }
                }
            }
        }
    }

    /// Every column of the table and both sides of every threshold.
    #[test]
    fn every_draw_has_the_weight_of_its_column() {
        let mut counts = [0u32; 9];
        for high in 0..=255u8 {
            for low in 0..=255u8 {
                let column = usize::from(high >> 4);
                let above = high & 15 > BYTES.high[column]
                    || high & 15 == BYTES.high[column] && low >= BYTES.low[column];
                let weight =
                    BYTES.base[column].wrapping_add(if above { BYTES.delta[column] } else { 0 });
                assert_eq!(weight, portable::weight(high, low));
                counts[usize::from(weight)] += 1;
            }
        }
        assert_eq!(counts, LAW);
    }

    /// The published numbers, made by another implementation.
    #[test]
    fn every_engine_draws_the_golden_weights() {
        let golden = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/weights/expected.json"
        ));
        let golden: serde_json::Value = serde_json::from_str(golden).expect("a golden file");
        for case in golden["cases"].as_array().expect("cases") {
            let text = |name: &str| case[name].as_str().expect(name);
            let hash = u128::from_str_radix(text("hash"), 16).expect("a hash");
            let far = case["far"].as_object().expect("far replicates");
            let far = far.iter().map(|(b, w)| (b.parse().expect("a replicate"), w));
            let near = case["weights"].as_array().expect("weights").iter().enumerate();
            let expected: Vec<(usize, &serde_json::Value)> = near.chain(far).collect();
            for engine in Engine::available() {
                let weights = PoissonWeights::with(text("seed").parse().expect("a seed"), engine);
                let mut row = vec![0; expected.iter().map(|e| e.0).max().expect("weights") + 1];
                weights.fill(hash, &mut row);
                for (b, weight) in &expected {
                    assert_eq!(Some(u64::from(row[*b])), weight.as_u64(), "{case} {engine:?}");
                }
            }
        }
    }

    #[test]
    fn fewer_replicates_are_a_prefix() {
        let weights = PoissonWeights::new(7);
        let (mut few, mut many) = ([0; 21], [0; 64]);
        weights.fill(42, &mut few);
        weights.fill(42, &mut many);
        assert_eq!(few, many[..21]);
    }
}
