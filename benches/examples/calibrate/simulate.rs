//! Experiments on both processors, and how often intervals hold the truth.

use gosset_stats::Effect;

/// SplitMix64, Box and Muller.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

/// How often an interval held 0, how often there was one, and what else is said of the effects.
#[derive(Default, Clone, Copy)]
pub(crate) struct Coverage {
    covered: usize,
    defined: usize,
    /// The sums of the estimates and their squares, and of the variance reductions, and how many.
    estimated: usize,
    estimates: f64,
    squared_estimates: f64,
    reduced: usize,
    reductions: f64,
    /// The sum of the squares of `SE/SE of the closed form − 1`, and how many.
    squares: f64,
    compared: usize,
}

impl Coverage {
    fn count(&mut self, effect: &Effect, closed_form: Option<f64>) {
        if let Some(estimate) = effect.estimate {
            self.estimated += 1;
            self.estimates += estimate;
            self.squared_estimates += estimate * estimate;
        }
        if let Some(reduction) = effect.variance_reduction {
            self.reduced += 1;
            self.reductions += reduction;
        }
        if let (Some(found), Some(expected)) = (effect.std_error, closed_form)
            && expected > 0.0
        {
            self.squares += (found / expected - 1.0).powi(2);
            self.compared += 1;
        }
        if let (Some(low), Some(high)) = (effect.ci_lower, effect.ci_upper) {
            self.defined += 1;
            self.covered += usize::from(low <= 0.0 && 0.0 <= high);
        }
    }

    fn add(&mut self, other: Self) {
        self.covered += other.covered;
        self.defined += other.defined;
        self.estimated += other.estimated;
        self.estimates += other.estimates;
        self.squared_estimates += other.squared_estimates;
        self.reduced += other.reduced;
        self.reductions += other.reductions;
        self.squares += other.squares;
        self.compared += other.compared;
    }

    /// The root mean square of the deviations of the standard error from the closed form, in %.
    pub(crate) fn deviation(self) -> String {
        match self.compared {
            0 => "–".into(),
            n => format!("{:.1}", 100.0 * (self.squares / n as f64).sqrt()),
        }
    }

    /// The mean of the estimates in its standard errors over the experiments: beyond 3 it is no noise.
    pub(crate) fn bias(self, experiments: usize) -> String {
        if 2 * self.estimated < experiments {
            return "–".into();
        }
        let n = self.estimated as f64;
        let mean = self.estimates / n;
        let variance = (self.squared_estimates / n - mean * mean) / n;
        format!("{:.1}", mean / variance.sqrt())
    }

    /// The mean share of the variance that the adjustment takes away, in %.
    pub(crate) fn reduction(self, experiments: usize) -> String {
        if 2 * self.reduced < experiments {
            return "–".into();
        }
        format!("{:.0}", 100.0 * self.reductions / self.reduced as f64)
    }

    /// How often there was no interval, in %.
    pub(crate) fn none(self, experiments: usize) -> String {
        format!("{:.0}", 100.0 * (experiments - self.defined) as f64 / experiments as f64)
    }

    /// The coverage, bold where it is no noise: beyond three standard errors from 95 %.
    pub(crate) fn marked(self, experiments: usize) -> String {
        let n = self.defined as f64;
        let distance = (self.covered as f64 / n - 0.95).abs();
        let shown = self.shown(experiments);
        if distance > 3.0 * (0.95 * 0.05 / n).sqrt() && shown != "–" {
            return format!("**{shown}**");
        }
        shown
    }

    pub(crate) fn shown(self, experiments: usize) -> String {
        // Without events there is no interval in most experiments, and the others are no sample.
        if 2 * self.defined < experiments {
            return "–".into();
        }
        format!("{:.1}", 100.0 * self.covered as f64 / self.defined as f64)
    }
}

/// Runs experiments on both processors.
pub(crate) fn simulate<const N: usize>(
    experiments: usize,
    run: impl Fn(usize) -> [Option<Effect>; N] + Sync,
) -> [Coverage; N] {
    let halves: Vec<[Coverage; N]> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|half| {
                let run = &run;
                scope.spawn(move || {
                    let mut coverage = [Coverage::default(); N];
                    for experiment in (half..experiments).step_by(2) {
                        let effects = run(experiment);
                        let closed_form = effects[0].as_ref().and_then(|effect| effect.std_error);
                        for (coverage, effect) in coverage.iter_mut().zip(effects) {
                            if let Some(effect) = effect {
                                coverage.count(&effect, closed_form);
                            }
                        }
                    }
                    coverage
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("a worker ends")).collect()
    });
    let mut all = [Coverage::default(); N];
    for half in halves {
        all.iter_mut().zip(half).for_each(|(all, half)| all.add(half));
    }
    all
}

/// As many units in all, so that a cell takes no more than minutes.
pub(crate) fn experiments_of(experiments: usize, n: usize) -> usize {
    let least = (120_000_000 / n).clamp(30, 100);
    experiments.min(12_000_000 / n).max(least)
}
