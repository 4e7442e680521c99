//! Rows of play delays, lognormal: all of them, or only those that a bootstrap of some quantiles can come to.

use gosset_stats::dist::normal_isf;

/// How many standard errors of its rank a quantile can be away, in any replicate.
const FAR: f64 = 8.0;

/// The rows of an arm in ascending order.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Values that follow one another, and how many rows there are before them that were not drawn.
    pub(crate) stretches: Vec<(u64, Vec<f64>)>,
    /// Rows above the last of them.
    pub(crate) above: u64,
}

impl Sample {
    /// All rows.
    pub(crate) fn whole(seed: u64, n: u64, lift: f64) -> Self {
        let mut random = Random(seed);
        let mut values: Vec<f64> = (0..n).map(|_| delay(random.normal() + lift)).collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { stretches: vec![(0, values)], above: 0 }
    }

    /// The rows around quantiles, and `margin` more on either side: the order statistics of `n` uniform values, each drawn
    /// given the one before it.
    pub(crate) fn around(quantiles: &[f64], margin: u64, seed: u64, n: u64, lift: f64) -> Self {
        let mut random = Random(seed);
        let mut stretches: Vec<(u64, Vec<f64>)> = Vec::new();
        // The rank and the value of the last that was drawn.
        let (mut rank, mut last) = (0, 0.0);
        for q in quantiles {
            let (middle, spread) = (q * n as f64, FAR * (q * (1.0 - q) * n as f64).sqrt());
            let start = ((middle - spread) as u64).saturating_sub(margin).max(rank);
            let end = ((middle + spread) as u64 + margin).min(n);
            let mut values = Vec::with_capacity((end - start) as usize);
            for next in start + 1..=end {
                // Of the `n − rank` values above the last, the `next − rank`-th.
                last += (1.0 - last) * random.beta(next - rank, n - next + 1);
                rank = next;
                values.push(delay(-normal_isf(last) + lift));
            }
            let drawn: u64 = stretches.iter().map(|(before, s)| before + s.len() as u64).sum();
            stretches.push((start - drawn, values));
        }
        Self { stretches, above: n - rank }
    }

    /// Every value replaced by the mean of its bucket of so many rows, as a look-up without edges sees it.
    pub(crate) fn stepped(&self, bucket: u64) -> Self {
        let mut rank = 0;
        let mut stepped = Vec::new();
        for (before, values) in &self.stretches {
            rank += before;
            let mut means = values.clone();
            // The first whole bucket; rows before it are of one that reaches beyond the stretch.
            let start = (rank.next_multiple_of(bucket) - rank).min(values.len() as u64);
            for bucket in means[start as usize..].chunks_exact_mut(bucket as usize) {
                let mean = bucket.iter().sum::<f64>() / bucket.len() as f64;
                bucket.fill(mean);
            }
            rank += values.len() as u64;
            stepped.push((*before, means));
        }
        Self { stretches: stepped, above: self.above }
    }
}

fn delay(z: f64) -> f64 {
    600.0 * z.exp()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// From 0 to 1, neither included.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// For a shape of at least one, by Marsaglia and Tsang (2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    fn beta(&mut self, a: u64, b: u64) -> f64 {
        if a == 1 {
            // The least of `b` uniform values.
            return -(self.uniform().ln() / b as f64).exp_m1();
        }
        let (x, y) = (self.gamma(a as f64), self.gamma(b as f64));
        x / (x + y)
    }
}
