//! How the work of an experiment is divided so that the states of its summaries fit into memory: by metric and kind of
//! summary first, then by segment, then by value of a segment.
//!
//! Each wave is a pass over the sources. A summary is the same bits in any wave.

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

/// One pass over the sources: some summaries in some slices.
#[derive(Debug, Clone, PartialEq)]
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
    /// Bytes of the states of the largest, about.
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
        match self.waves {
            1 => write!(f, "in 1 wave, about {} of states", Bytes(self.bytes)),
            n => write!(f, "in {n} waves, about {} of states at once", Bytes(self.bytes)),
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

/// Everything at once.
pub(crate) fn whole(experiment: &Experiment) -> Wave {
    Wave { slices: None, parts: experiment.parts(), bytes: 0 }
}

/// Divides the work of an experiment whose groups are known.
///
/// The first wave is of every slice, with the summaries that fit or none: it also counts what audits are made of. A
/// summary that does not fit in the smallest of divisions has a wave of its own: what it takes is an estimate, and the
/// memory limit has the last word.
pub(crate) fn waves(experiment: &Experiment, groups: &Cells, limits: Limits) -> Vec<Wave> {
    let first = Wave { slices: None, parts: Vec::new(), bytes: 0 };
    let slices: Vec<Slice> = groups.keys().cloned().collect();
    let mut division =
        Division { experiment, groups, room: limits.of_states(), waves: vec![first] };
    for part in experiment.parts() {
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
