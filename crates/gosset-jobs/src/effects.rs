//! From summaries to effects: every metric, segment, arm and estimator of an experiment.

use std::collections::BTreeMap;

use gosset_stats::Effect;
use gosset_stats::summary::AnySummary;

use crate::audit::Audit;
use crate::estimators::{Measured, Sides, not_taken};
use crate::job::{Experiment, Part};
use crate::kept::Kept;
use crate::period::Period;
use crate::summaries::{Cell, Cells, Counted, Slice};
use crate::waves::Wave;
use crate::{Result, internal};

/// An effect with what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectRow {
    /// The metric.
    pub metric: String,
    /// The segment, or none for all units.
    pub segment: Option<String>,
    /// The value of the segment; none where units have none.
    pub segment_value: Option<String>,
    /// What the effect is of.
    pub period: Period,
    /// The treatment.
    pub arm: String,
    /// The function that gives the same effect in SQL, or `quantile` and which one.
    pub estimator: String,
    /// The effect.
    pub effect: Effect,
    /// The seed of its replicates, where there are any.
    pub seed: Option<u64>,
}

/// The effects of an experiment in the order of results, whatever the order in which waves made them.
#[derive(Debug, Default)]
pub(crate) struct Effects(BTreeMap<Place, Vec<EffectRow>>);

/// What rows are of: positions of a metric and of an estimator, a slice, the treatment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    metric: usize,
    slice: Slice,
    arm: String,
    estimator: usize,
}

/// Everything that is asked for in some slices.
fn places(experiment: &Experiment, counted: &Counted, cells: &Cells) -> Vec<Place> {
    let mut places = Vec::new();
    for slice in cells.keys() {
        for metric in 0..experiment.metrics.len() {
            for arm in counted.analysed.keys().filter(|arm| **arm != experiment.control) {
                for estimator in 0..experiment.estimators.len() {
                    places.push(Place {
                        metric,
                        slice: slice.clone(),
                        arm: arm.clone(),
                        estimator,
                    });
                }
            }
        }
    }
    places
}

impl Effects {
    /// The rows of estimators that a metric cannot take, in the slices of the first wave, which are all.
    pub(crate) fn not_taken(experiment: &Experiment, counted: &Counted, cells: &Cells) -> Self {
        let mut effects = Self::default();
        for place in places(experiment, counted, cells) {
            let metric = &experiment.metrics[place.metric];
            let estimator = &experiment.estimators[place.estimator];
            if let Err(why) = experiment.takes(&**estimator, metric) {
                let rows = estimator.rows().into_iter();
                let rows = rows.map(|row| (row.clone(), not_taken(metric, &row, why.clone())));
                effects.insert(experiment, place, None, rows.collect());
            }
        }
        effects
    }

    /// Adds rows of metrics that could not be measured, which say why.
    pub(crate) fn add_failed(&mut self, experiment: &Experiment, counted: &Counted) {
        let arms = counted.analysed.keys().filter(|arm| **arm != experiment.control);
        for arm in arms {
            for (k, (metric, error)) in experiment.failed.iter().enumerate() {
                for (estimator, made) in experiment.estimators.iter().enumerate() {
                    let place = Place {
                        metric: experiment.metrics.len() + k,
                        slice: Slice::All,
                        arm: arm.clone(),
                        estimator,
                    };
                    let row = |name: String| EffectRow {
                        metric: metric.name.clone(),
                        segment: None,
                        segment_value: None,
                        period: Period::Overall,
                        arm: arm.clone(),
                        effect: not_taken(metric, &name, error.to_string()),
                        estimator: name,
                        seed: None,
                    };
                    self.0.insert(place, made.rows().into_iter().map(row).collect());
                }
            }
        }
    }

    /// Adds what the summaries of a wave say.
    pub(crate) fn add(
        &mut self,
        experiment: &Experiment,
        counted: &Counted,
        wave: &Wave,
        cells: &Cells,
    ) -> Result<()> {
        for place in places(experiment, counted, cells) {
            let metric = &experiment.metrics[place.metric];
            let estimator = &experiment.estimators[place.estimator];
            let Ok(kept) = experiment.takes(&**estimator, metric) else { continue };
            let wanted = Part { metric: place.metric, kept };
            let Some(part) = wave.parts.iter().position(|part| *part == wanted) else { continue };
            let arms = (place.arm.as_str(), experiment.control.as_str());
            let sides = sides(cells, &cells[&place.slice], part, arms)?;
            let binary = counted.metrics[place.metric].not_binary == 0;
            let made = estimator.effects(&Measured { metric, binary }, &sides);
            let made = made.map_err(|error| {
                error.about(&format!("{} of metric '{}'", estimator.name(), metric.name))
            })?;
            self.insert(experiment, place, estimator.seed(), made);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        experiment: &Experiment,
        at: Place,
        seed: Option<u64>,
        effects: Vec<(String, Effect)>,
    ) {
        let (segment, segment_value) = match &at.slice {
            Slice::All => (None, None),
            Slice::Segment(s, value) => (Some(experiment.segments[*s].0.clone()), value.clone()),
        };
        let rows = effects.into_iter().map(|(estimator, effect)| EffectRow {
            metric: experiment.metrics[at.metric].name.clone(),
            segment: segment.clone(),
            segment_value: segment_value.clone(),
            period: Period::Overall,
            arm: at.arm.clone(),
            estimator,
            effect,
            seed,
        });
        let rows = rows.collect();
        self.0.insert(at, rows);
    }

    /// All of them, as effects of some periods. Audits that failed and do not block are told in each effect's note.
    pub(crate) fn rows(self, audits: &[Audit], periods: &[Period]) -> Vec<EffectRow> {
        let failed = audits.iter().filter(|audit| audit.failed);
        let warning: Vec<String> =
            failed.map(|audit| format!("failed audit: {}", audit.shown())).collect();
        let warning = (!warning.is_empty()).then(|| warning.join("; "));
        let mut rows: Vec<EffectRow> = self.0.into_values().flatten().collect();
        if let Some(warning) = warning {
            for EffectRow { effect, .. } in &mut rows {
                effect.note = Some(match effect.note.take() {
                    Some(note) => format!("{warning}; {note}"),
                    None => warning.clone(),
                });
            }
        }
        let of = |period: &Period| {
            let period = *period;
            rows.iter().cloned().map(move |row| EffectRow { period, ..row })
        };
        periods.iter().flat_map(of).collect()
    }
}

/// The summaries of treatment and control; an empty one where an arm has no unit in a slice.
fn sides(
    cells: &Cells,
    arms: &BTreeMap<String, Cell>,
    part: usize,
    (treatment, control): (&str, &str),
) -> Result<Sides> {
    let decoded = |cell: &Cell| {
        AnySummary::decode(&cell.summaries[part]).map_err(|error| internal(error.to_string()))
    };
    let side = |arm: &str| match arms.get(arm) {
        Some(cell) => decoded(cell),
        None => {
            let any = cells.values().flat_map(BTreeMap::values).next();
            let any = any.ok_or_else(|| internal("a slice has no arm"))?;
            Kept::empty(&decoded(any)?)
        }
    };
    Ok(Sides { treatment: side(treatment)?, control: side(control)? })
}
