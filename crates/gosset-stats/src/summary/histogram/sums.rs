//! Sums of the weights of bins, for every replicate.

use crate::summary::replicates::Resampling;
use crate::weights::{SUMMED_REPLICATES, Weights};

/// Sums of consecutive replicates.
type Block = [u16; SUMMED_REPLICATES];

/// By bin and replicate, the sum of weights.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    /// By bin, the blocks of its replicates, to which new weights are added.
    narrow: Vec<Block>,
    blocks_of_a_bin: usize,
    /// By bin, a bound of the rows in `narrow`: as many of the largest weight are no less than any of its sums.
    waiting: Vec<u32>,
    /// By bin, what was taken from `narrow`, by replicate; empty where nothing was.
    wide: Vec<Vec<u32>>,
    largest_weight: u32,
}

impl Sums {
    pub(super) fn new(resampling: &Resampling) -> Self {
        let blocks_of_a_bin = (resampling.replicates as usize).div_ceil(SUMMED_REPLICATES);
        Self::of_no_bins(blocks_of_a_bin, resampling.law.largest().into())
    }

    /// None, for as many replicates.
    pub(super) fn empty(&self) -> Self {
        Self::of_no_bins(self.blocks_of_a_bin, self.largest_weight)
    }

    fn of_no_bins(blocks_of_a_bin: usize, largest_weight: u32) -> Self {
        let (narrow, waiting, wide) = (Vec::new(), Vec::new(), Vec::new());
        Self { narrow, blocks_of_a_bin, waiting, wide, largest_weight }
    }

    pub(super) fn heap_size(&self) -> usize {
        let wide: usize = self.wide.iter().map(|s| s.capacity() * size_of::<u32>()).sum();
        wide + self.narrow.capacity() * size_of::<Block>()
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
        self.narrow.resize(bins * self.blocks_of_a_bin, [0; SUMMED_REPLICATES]);
    }

    /// The most rows of a bin that may be added at once.
    pub(super) fn most(&self) -> u32 {
        u32::from(u16::MAX) / self.largest_weight
    }

    fn narrow(&self, bin: usize) -> &[u16] {
        self.narrow[bin * self.blocks_of_a_bin..][..self.blocks_of_a_bin].as_flattened()
    }

    fn narrow_mut(&mut self, bin: usize) -> &mut [u16] {
        self.narrow[bin * self.blocks_of_a_bin..][..self.blocks_of_a_bin].as_flattened_mut()
    }

    /// Makes sure that `narrow` holds so many more rows of a bin, at most [`most`](Self::most).
    fn reserve(&mut self, bin: usize, rows: u32) {
        if self.waiting[bin] + rows > self.most() {
            let mut wide = std::mem::take(self.wide(bin));
            let narrow = self.narrow_mut(bin);
            wide.iter_mut().zip(&*narrow).for_each(|(sum, &n)| *sum += u32::from(n));
            narrow.fill(0);
            self.wide[bin] = wide;
            self.waiting[bin] = 0;
        }
        self.waiting[bin] += rows;
    }

    fn wide(&mut self, bin: usize) -> &mut Vec<u32> {
        let wide = &mut self.wide[bin];
        wide.resize(self.blocks_of_a_bin * SUMMED_REPLICATES, 0);
        wide
    }

    /// Adds the weights of units, which are in the order of bins, of which each has as many as its count.
    pub(super) fn add_rows(&mut self, keys: &[u64], counts: &[u32], weights: &Weights) {
        for (bin, &count) in counts.iter().enumerate() {
            self.reserve(bin, count);
        }
        weights.add(keys, counts, &mut self.narrow);
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
            let sums = self.narrow_mut(to).iter_mut().zip(other.narrow(bin));
            sums.for_each(|(sum, other)| *sum += other);
        }
    }

    /// Writes the sums of a bin, of whole blocks of replicates.
    pub(super) fn get(&self, bin: usize, sums: &mut Vec<u32>) {
        sums.clear();
        sums.extend(self.narrow(bin).iter().map(|&n| u32::from(n)));
        sums.iter_mut().zip(&self.wide[bin]).for_each(|(sum, wide)| *sum += wide);
    }

    /// Appends the sums of a bin: in how many bytes, and these of each.
    pub(super) fn write(&self, bin: usize, replicates: usize, out: &mut Vec<u8>) {
        let narrow = &self.narrow(bin)[..replicates];
        let mut sums = Vec::new();
        let bits = if self.wide[bin].is_empty() {
            narrow.iter().fold(0, |bits, &sum| bits | sum).into()
        } else {
            self.get(bin, &mut sums);
            sums[..replicates].iter().fold(0, |bits, &sum| bits | sum)
        };
        let width = width_of(bits);
        out.push(width as u8);
        match (width, self.wide[bin].is_empty()) {
            (0, _) => {}
            (1, true) => write::<1, 2>(narrow.iter().map(|sum| sum.to_le_bytes()), out),
            (2, true) => write::<2, 2>(narrow.iter().map(|sum| sum.to_le_bytes()), out),
            _ => {
                let sums = sums[..replicates].iter().map(|sum| sum.to_le_bytes());
                match width {
                    1 => write::<1, 4>(sums, out),
                    2 => write::<2, 4>(sums, out),
                    3 => write::<3, 4>(sums, out),
                    _ => write::<4, 4>(sums, out),
                }
            }
        }
    }

    /// Reads what [`write`](Self::write) wrote, to a bin that has none; what follows, or none if it is damaged.
    pub(super) fn read<'a>(
        &mut self,
        bin: usize,
        replicates: usize,
        bytes: &'a [u8],
    ) -> Option<&'a [u8]> {
        let (&width, bytes) = bytes.split_first()?;
        let (bytes, rest) = bytes.split_at_checked(usize::from(width) * replicates)?;
        let bits = match width {
            0 => 0,
            1 => self.read_narrow::<1>(bin, bytes),
            2 => self.read_narrow::<2>(bin, bytes),
            3 => self.read_wide::<3>(bin, bytes),
            4 => self.read_wide::<4>(bin, bytes),
            _ => return None,
        };
        (width_of(bits) == usize::from(width)).then_some(rest)
    }

    /// The bits of all sums that are read.
    fn read_narrow<const WIDTH: usize>(&mut self, bin: usize, bytes: &[u8]) -> u32 {
        let mut bits = 0;
        for (sum, bytes) in self.narrow_mut(bin).iter_mut().zip(bytes.as_chunks::<WIDTH>().0) {
            *sum = u16::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0)));
            bits |= *sum;
        }
        // Where they are larger than those of as many rows, none fits beside them.
        let rows = u32::from(bits).div_ceil(self.largest_weight);
        self.waiting[bin] = rows.min(self.most());
        bits.into()
    }

    /// The bits of all sums that are read.
    fn read_wide<const WIDTH: usize>(&mut self, bin: usize, bytes: &[u8]) -> u32 {
        let mut bits = 0;
        for (sum, bytes) in self.wide(bin).iter_mut().zip(bytes.as_chunks::<WIDTH>().0) {
            *sum = u32::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0)));
            bits |= *sum;
        }
        bits
    }
}

/// Bytes that so many bits need.
fn width_of(bits: u32) -> usize {
    (32 - bits.leading_zeros()).div_ceil(8) as usize
}

/// Appends the low bytes of sums.
fn write<const WIDTH: usize, const OF: usize>(
    sums: impl ExactSizeIterator<Item = [u8; OF]>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + WIDTH * sums.len(), 0);
    for (bytes, sum) in out[start..].as_chunks_mut::<WIDTH>().0.iter_mut().zip(sums) {
        *bytes = std::array::from_fn(|i| sum[i]);
    }
}
