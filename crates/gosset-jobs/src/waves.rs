//! How the work of an experiment is divided so that the states of its summaries fit into memory: by metric and kind of
//! summary first, then by segment, then by value of a segment.
//!
//! Each wave is a pass over the units, which are made of rows once. A summary is the same bits in any wave.

use std::collections::BTreeSet;
use std::fmt;

use gosset_engine::EngineError;
use gosset_sql::size::Bytes;

use crate::JobError;
use crate::job::{Experiment, Part};
use crate::summaries::{Cells, Slice};

/// The share of the memory limit that the states of a wave may take in all partitions: a quarter. The rest is for the
/// aggregations by unit before them, for states on their way between partitions, and for what an estimate is short of.
const SHARE: usize = 4;

/// One pass over the units: some summaries in some slices.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wave {
    /// Which slices, all of them everybody or values of one segment; none for every slice of the experiment.
    pub(crate) slices: Option<Vec<Slice>>,
    /// Which summaries.
    pub(crate) parts: Vec<Part>,
    /// Bytes of the states, about.
    pub(crate) bytes: usize,
}

/// In how many waves an experiment is computed, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waves {
    /// How many.
    pub waves: usize,
    /// Bytes of the states of the largest, about; 0 where only moments are kept, which are small.
    pub bytes: usize,
}

impl Waves {
    pub(crate) fn of(waves: &[Wave]) -> Self {
        let bytes = waves.iter().map(|wave| wave.bytes).max().unwrap_or_default();
        Self { waves: waves.len(), bytes }
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.waves, self.bytes) {
            (1, 0) => write!(f, "in 1 wave"),
            (1, bytes) => write!(f, "in 1 wave, about {} of states", Bytes(bytes)),
            (n, bytes) => write!(f, "in {n} waves, about {} of states at once", Bytes(bytes)),
        }
    }
}

/// What queries may hold, and in how many partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The memory limit in bytes; none where there is none.
    pub(crate) memory: Option<usize>,
    pub(crate) partitions: usize,
}

impl Limits {
    /// Bytes that the states of a wave may take in one partition, each of which may have a state of every group.
    fn of_states(&self) -> usize {
        self.memory.map_or(usize::MAX, |bytes| bytes / SHARE / self.partitions.max(1))
    }
}

/// Some summaries at once.
pub(crate) fn whole(parts: Vec<Part>) -> Wave {
    Wave { slices: None, parts, bytes: 0 }
}

/// Divides the work of an experiment whose groups are known.
///
/// The first wave is of every slice, with the summaries that fit or none: it also counts what audits are made of. A
/// summary that does not fit in the smallest of divisions has a wave of its own: what it takes is an estimate, and the
/// memory limit has the last word.
pub(crate) fn waves(
    experiment: &Experiment,
    parts: Vec<Part>,
    groups: &Cells,
    limits: Limits,
) -> Vec<Wave> {
    let slices: Vec<Slice> = groups.keys().cloned().collect();
    let mut division =
        Division { experiment, groups, room: limits.of_states(), waves: vec![Wave::default()] };
    for part in parts {
        if !division.fit(part, None, &slices) {
            slices.chunk_by(Slice::is_beside).for_each(|of_one| division.place(part, of_one));
        }
    }
    division.waves
}

struct Division<'a> {
    experiment: &'a Experiment,
    groups: &'a Cells,
    room: usize,
    waves: Vec<Wave>,
}

impl Division<'_> {
    fn bytes(&self, part: Part, slices: &[Slice]) -> usize {
        let metric = &self.experiment.metrics[part.metric];
        let arms =
            slices.iter().filter_map(|slice| self.groups.get(slice)).flat_map(|a| a.values());
        arms.map(|cell| part.kept.bytes(metric, cell.units)).fold(0, usize::saturating_add)
    }

    /// Puts a summary into a wave of these slices, if it fits one.
    fn fit(&mut self, part: Part, named: Option<&[Slice]>, slices: &[Slice]) -> bool {
        let bytes = self.bytes(part, slices);
        if bytes > self.room {
            return false;
        }
        let fits = |w: &&mut Wave| w.slices.as_deref() == named && w.bytes + bytes <= self.room;
        match self.waves.iter_mut().find(fits) {
            Some(wave) => {
                wave.parts.push(part);
                wave.bytes += bytes;
            }
            None => self.alone(part, named, bytes),
        }
        true
    }

    fn alone(&mut self, part: Part, named: Option<&[Slice]>, bytes: usize) {
        let slices = named.map(<[Slice]>::to_vec);
        self.waves.push(Wave { slices, parts: vec![part], bytes });
    }

    /// Puts a summary into waves of these slices, which are of one segment, or of parts of them.
    fn place(&mut self, part: Part, slices: &[Slice]) {
        if self.fit(part, Some(slices), slices) {
            return;
        }
        if let [_] = slices {
            return self.alone(part, Some(slices), self.bytes(part, slices));
        }
        // The same halves for all summaries, so that they meet in waves.
        let (left, right) = slices.split_at(slices.len() / 2);
        self.place(part, left);
        self.place(part, right);
    }
}

impl Wave {
    /// What to tell where the memory limit is too small for it.
    pub(crate) fn too_large(&self, experiment: &Experiment, limits: Limits) -> JobError {
        let parts = self.parts.iter();
        let named: Vec<String> = parts
            .map(|part| {
                let metric = &experiment.metrics[part.metric].name;
                format!("{} of metric '{metric}'", part.kept.function())
            })
            .collect();
        let parts = self.parts.iter();
        let lower: BTreeSet<&str> = parts.filter_map(|part| part.kept.what_to_lower()).collect();
        let lower: String = lower.into_iter().map(|what| format!(", or lower {what}")).collect();
        let partitions = match limits.partitions {
            1 => "1 partition".to_owned(),
            n => format!("each of {n} partitions"),
        };
        JobError::Engine(EngineError::MemoryLimit(format!(
            "the memory limit of {} is too small for {}, about {} in {partitions}: raise it{lower}",
            Bytes(limits.memory.unwrap_or_default()),
            named.join(", "),
            Bytes(self.bytes),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::JobFile;
    use crate::job::Job;
    use crate::summaries::Cell;

    const JOB: &str = r#"
        [job]
        name = "j"
        store = "results"
        [sources.s]
        url = "s.csv"
        unit = "u"
        [assignments]
        source = "s"
        arm = "arm"
        [segments.country]
        column = "country"
        [metrics.a]
        source = "s"
        value = "sum(a)"
        [metrics.b]
        source = "s"
        numerator = "sum(b)"
        denominator = "count(*)"
        [estimators.bootstrap]
        method = "poisson"
        [experiments.e]
        control = "x"
        metrics = ["a", "b"]
        segments = ["country"]
        estimators = ["ttest", "bootstrap", "mann_whitney", "ks_test", "quantile"]
    "#;

    fn experiment() -> Experiment {
        let file = JobFile::parse(JOB, "job.toml").expect("a job file");
        Job::new(file).expect("a job").experiments.remove(0)
    }

    /// Two arms of 5000 units, in ten countries and in none.
    fn groups() -> Cells {
        let slice = |i| Slice::Segment(0, (i > 0).then(|| format!("country {i:02}")));
        let arms = |units| {
            let cell = Cell { units, ..Cell::default() };
            ["x", "y"].into_iter().map(|arm| (arm.to_owned(), cell.clone())).collect()
        };
        let countries = (0..=10).map(|i| (slice(i), arms(450)));
        std::iter::once((Slice::All, arms(5000))).chain(countries).collect()
    }

    fn divided(memory: usize) -> Vec<Wave> {
        let waves = waves(
            &experiment(),
            experiment().parts(),
            &groups(),
            Limits { memory: Some(memory), partitions: 2 },
        );
        let room = memory / SHARE / 2;
        for wave in &waves {
            let small = wave.slices.as_ref().is_some_and(|s| s.len() == 1) && wave.parts.len() == 1;
            assert!(wave.bytes <= room || small, "{wave:?}");
        }
        waves
    }

    #[test]
    fn every_summary_is_in_one_wave_for_every_slice() {
        let all = groups();
        for memory in [1 << 10, 1 << 20, 4 << 20, 20 << 20, 100 << 20, 1 << 40] {
            let waves = divided(memory);
            assert_eq!(waves[0].slices, None, "the first wave counts all units");
            for part in experiment().parts() {
                let with: Vec<&Wave> = waves.iter().filter(|w| w.parts.contains(&part)).collect();
                let everything: Vec<Slice> = all.keys().cloned().collect();
                let mut seen: Vec<Slice> = with
                    .iter()
                    .flat_map(|w| w.slices.clone().unwrap_or_else(|| everything.clone()))
                    .collect();
                seen.sort();
                assert_eq!(seen, everything, "{part:?} of {memory} bytes");
            }
        }
    }

    #[test]
    fn less_memory_is_more_waves() {
        let counts: Vec<usize> =
            [1 << 40, 100 << 20, 20 << 20, 4 << 20, 1 << 20].map(|m| divided(m).len()).into();
        assert_eq!(counts[0], 1);
        assert!(counts.is_sorted(), "{counts:?}");
        // Summaries that are small by themselves stay with one another.
        let smallest = divided(1 << 20);
        let moments = |wave: &&Wave| wave.parts.iter().any(|p| p.kept.function() == "moments");
        assert_eq!(smallest.iter().filter(moments).count(), 1, "{smallest:?}");
    }

    #[test]
    fn slices_of_a_wave_are_of_one_segment() {
        for wave in divided(4 << 20) {
            let slices = wave.slices.unwrap_or_default();
            assert!(slices.windows(2).all(|pair| pair[0].is_beside(&pair[1])), "{slices:?}");
        }
    }

    #[test]
    fn estimators_share_what_they_take() {
        let kept: Vec<&str> = experiment().parts().iter().map(|p| p.kept.function()).collect();
        assert_eq!(kept, ["moments", "replicates", "histogram", "moments", "replicates"]);
    }
}
