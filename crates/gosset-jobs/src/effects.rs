//! From summaries to effects: every metric, segment, arm and estimator of an experiment.

use std::collections::BTreeMap;

use gosset_stats::Effect;
use gosset_stats::compare::{Influence, Squares};
use gosset_stats::summary::AnySummary;

use crate::audit::Audit;
use crate::caps::{Capped, Caps};
use crate::estimators::{Estimator, Measured, Named, Sides, for_estimates, not_taken};
use crate::job::{Experiment, Part};
use crate::kept::Kept;
use crate::period::Period;
use crate::summaries::{Cell, Cells, Counted, Slice};
use crate::units::Base;
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
    /// Which of the assigned units it is of.
    pub base: Base,
    /// What the effect is of.
    pub period: Period,
    /// The treatment.
    pub arm: String,
    /// The function that gives the same effect in SQL, or `quantile`.
    pub estimator: &'static str,
    /// Which quantile it is of, if it is of one.
    pub quantile: Option<f64>,
    /// The effect.
    pub effect: Effect,
    /// The seed of its replicates, where there are any.
    pub seed: Option<u64>,
    /// Where the values behind it were capped, if they were.
    pub capped: Option<Capped>,
}

/// What is known of an experiment before its effects are made.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) experiment: Experiment,
    pub(crate) counted: Counted,
    pub(crate) caps: Caps,
}

/// The effects of an experiment in the order of results, whatever the order in which waves made them.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    rows: BTreeMap<Place, Vec<EffectRow>>,
    /// The estimates of the values as they are, where the rows are of capped ones.
    uncapped: BTreeMap<Place, Vec<Option<f64>>>,
}

/// What rows are of: positions of a metric and of an estimator, a slice, the treatment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) metric: usize,
    pub(crate) slice: Slice,
    pub(crate) arm: String,
    estimator: usize,
}

/// What effects take of a second pass over the units.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) place: Place,
    pub(crate) part: Part,
    /// Of the units of treatment and of control.
    pub(crate) influences: [Influence; 2],
}

/// What the effects of a wave take of a second pass.
pub(crate) fn asked(known: &Known, wave: &Wave, cells: &Cells) -> Result<Vec<Asked>> {
    let experiment = &known.experiment;
    let mut asked = Vec::new();
    for place in places(known, cells) {
        let estimator = experiment.estimators[place.estimator].as_ref();
        let part = experiment.part(estimator, place.metric);
        let Some(part) = part.ok().filter(|_| estimator.passes_twice()) else { continue };
        let Some(position) = wave.parts.iter().position(|known| *known == part) else { continue };
        let arms = (place.arm.as_str(), experiment.control.as_str());
        let sides =
            sides(cells, &cells[&place.slice], position, arms, estimator.is_among_all_arms())?;
        let influences = estimator.influences(&sides)?;
        asked.extend(influences.map(|influences| Asked { place, part, influences }));
    }
    Ok(asked)
}

/// Everything that is asked for in some slices.
fn places(known: &Known, cells: &Cells) -> Vec<Place> {
    let Known { experiment, counted, .. } = known;
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
    pub(crate) fn not_taken(known: &Known, cells: &Cells) -> Self {
        let mut effects = Self::default();
        let experiment = &known.experiment;
        for place in places(known, cells) {
            let metric = &experiment.metrics[place.metric];
            let estimator = &experiment.estimators[place.estimator];
            if let Err(why) = experiment.takes(&**estimator, metric) {
                let rows = estimator.rows(metric).into_iter();
                let rows = rows.map(|row| (row, not_taken(metric, row.estimator, why.clone())));
                effects.insert(experiment, place, (None, None), rows.collect());
            }
        }
        effects
    }

    /// Adds rows of metrics that could not be measured, which say why.
    pub(crate) fn add_failed(&mut self, known: &Known) {
        let Known { experiment, counted, .. } = known;
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
                    let row = |named: Named| EffectRow {
                        metric: metric.name.clone(),
                        segment: None,
                        segment_value: None,
                        base: Base::Assignment,
                        period: Period::Overall,
                        arm: arm.clone(),
                        effect: not_taken(metric, named.estimator, error.to_string()),
                        estimator: named.estimator,
                        quantile: named.quantile,
                        seed: None,
                        capped: None,
                    };
                    self.rows.insert(place, made.rows(metric).into_iter().map(row).collect());
                }
            }
        }
    }

    /// Adds what the summaries of a wave say, and a second pass over the units.
    pub(crate) fn add(
        &mut self,
        known: &Known,
        wave: &Wave,
        cells: &Cells,
        squares: &BTreeMap<Place, [Squares; 2]>,
    ) -> Result<()> {
        let experiment = &known.experiment;
        for place in places(known, cells) {
            let metric = &experiment.metrics[place.metric];
            let estimator = experiment.estimators[place.estimator].as_ref();
            let Ok(part) = experiment.part(estimator, place.metric) else { continue };
            let measured =
                Measured { metric, binary: known.counted.metrics[place.metric].not_binary == 0 };
            let arms = (place.arm.as_str(), experiment.control.as_str());
            let (slice, capped) = (&cells[&place.slice], part.capped);
            // The effects of a part, if it is in the wave.
            let effects = |estimator: &dyn Estimator, part: Part| {
                let position = wave.parts.iter().position(|known| *known == part)?;
                let among_all = estimator.is_among_all_arms();
                let made = sides(cells, slice, position, arms, among_all);
                let made = made.and_then(|sides| {
                    let squares = squares.get(&place).filter(|_| part.capped == capped).cloned();
                    let with_rows = metric.measure.quantiles().map(|_| {
                        let of = |arm: &str| slice.get(arm)?.with_rows.get(&part.metric).copied();
                        (of(arms.0).unwrap_or_default(), of(arms.1).unwrap_or_default())
                    });
                    estimator.effects(&measured, &Sides { squares, with_rows, ..sides })
                });
                let about = format!("{} of metric '{}'", estimator.name(), metric.name);
                Some(made.map_err(|error| error.about(&about)))
            };
            if let Some(made) = effects(estimator, part) {
                let capped = part.capped.then(|| {
                    let beyond = |arm: &str| {
                        let cell = slice.get(arm).and_then(|cell| cell.beyond.get(&part.metric));
                        cell.copied().unwrap_or_default()
                    };
                    let cap = known.caps.get(&part.metric).copied().unwrap_or_default();
                    Capped::new(cap, beyond(arms.0), beyond(arms.1))
                });
                self.insert(experiment, place.clone(), (estimator.seed(), capped), made?);
            }
            if let Some(part) = part.uncapped(estimator, metric)
                && let Some(made) = effects(for_estimates(estimator), part)
            {
                let estimates = made?.into_iter().map(|(_, effect)| effect.estimate);
                self.uncapped.insert(place, estimates.collect());
            }
        }
        Ok(())
    }

    fn insert(
        &mut self,
        experiment: &Experiment,
        at: Place,
        (seed, capped): (Option<u64>, Option<Capped>),
        effects: Vec<(Named, Effect)>,
    ) {
        let (segment, segment_value) = match &at.slice {
            Slice::All => (None, None),
            Slice::Segment(s, value) => (Some(experiment.segments[*s].0.clone()), value.clone()),
        };
        let rows = effects.into_iter().map(|(named, effect)| EffectRow {
            metric: experiment.metrics[at.metric].name.clone(),
            segment: segment.clone(),
            segment_value: segment_value.clone(),
            base: Base::Assignment,
            period: Period::Overall,
            arm: at.arm.clone(),
            estimator: named.estimator,
            quantile: named.quantile,
            effect,
            seed,
            capped,
        });
        let rows = rows.collect();
        self.rows.insert(at, rows);
    }

    /// All of them, as effects of some periods. Audits that failed and do not block are told in each effect's note.
    pub(crate) fn rows(
        mut self,
        audits: &[Audit],
        (base, periods): (Base, &[Period]),
    ) -> Vec<EffectRow> {
        for (place, estimates) in &self.uncapped {
            let rows = self.rows.get_mut(place).into_iter().flatten();
            for (row, estimate) in rows.zip(estimates) {
                if let Some(capped) = &mut row.capped {
                    capped.estimate_uncapped = *estimate;
                    let told = capped.to_string();
                    row.effect.note = joined(row.effect.note.take(), Some(told));
                }
            }
        }
        let failed = audits.iter().filter(|audit| audit.failed);
        let warning: Vec<String> =
            failed.map(|audit| format!("failed audit: {}", audit.shown())).collect();
        let warning = (!warning.is_empty()).then(|| warning.join("; "));
        let mut rows: Vec<EffectRow> = self.rows.into_values().flatten().collect();
        for EffectRow { effect, .. } in &mut rows {
            effect.note = joined(warning.clone(), effect.note.take());
        }
        let of = |period: &Period| {
            let period = *period;
            rows.iter().cloned().map(move |row| EffectRow { base, period, ..row })
        };
        periods.iter().flat_map(of).collect()
    }
}

/// Both notes.
fn joined(first: Option<String>, second: Option<String>) -> Option<String> {
    first.into_iter().chain(second).reduce(|all, more| format!("{all}; {more}"))
}

/// The summaries of treatment and control, and of other arms where an estimator takes them; an empty one where an arm has
/// no unit in a slice.
fn sides(
    cells: &Cells,
    arms: &BTreeMap<String, Cell>,
    part: usize,
    (treatment, control): (&str, &str),
    among_all: bool,
) -> Result<Sides> {
    let decoded = |cell: &Cell| {
        AnySummary::decode(&cell.summaries[part]).map_err(|error| internal(error.to_string()))
    };
    let empty = || {
        let any = cells.values().flat_map(BTreeMap::values).next();
        let any = any.ok_or_else(|| internal("a slice has no arm"))?;
        Kept::empty(&decoded(any)?)
    };
    let side = |arm: &str| arms.get(arm).map_or_else(empty, decoded);
    let others = among_all.then(|| -> Result<AnySummary> {
        let others = arms.iter().filter(|(arm, _)| *arm != treatment && *arm != control);
        let mut all = empty()?;
        others
            .map(|(_, cell)| decoded(cell))
            .try_for_each(|arm| -> Result<()> { Ok(all.merge(&arm?)?) })?;
        Ok(all)
    });
    Ok(Sides {
        treatment: side(treatment)?,
        control: side(control)?,
        others: others.transpose()?,
        with_rows: None,
        squares: None,
    })
}
