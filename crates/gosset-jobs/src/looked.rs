//! What there is before a plan: the unit-days of each source, and who was assigned on which day.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::DataType;
use datafusion::logical_expr::{cast, ident, lit};
use datafusion::prelude::DataFrame;
use gosset_engine::Kept;
use jiff::civil::Date;

use crate::analyse::DaysOfSources;
use crate::assigned::Assigned;
use crate::days::{Days, DuePart, Needed, UnitDays};
use crate::job::{Experiment, Job};
use crate::period::days_before;
use crate::run::Runner;
use crate::units;
use crate::{JobError, Result};

/// Everything that a plan is made of besides what is published.
pub(crate) struct Looked<'a> {
    pub(crate) days: DaysOfSources<'a>,
    /// Sources that cannot be looked at, and why.
    pub(crate) failed: BTreeMap<String, JobError>,
    pub(crate) assigned: Result<Assigned>,
    /// The rows of the assignments, listed once.
    assignments: Option<Kept>,
    /// Sources with parts that are due and not read.
    pub(crate) unread: BTreeSet<String>,
}

/// Bytes that are held at most of a source or the assignments.
const HELD_AT_MOST: usize = 256 << 20;
/// The share of the memory limit that they may take: a sixteenth.
const SHARE: usize = 16;
/// Bytes of a row of the assignments, about.
const BYTES_OF_A_ROW: u64 = 256;

impl Experiment {
    /// The first day that its results depend on.
    fn first_day(&self) -> Date {
        let lookback = self.metrics.iter().filter_map(|metric| metric.lookback).max();
        days_before(self.start.unwrap_or(Date::MIN), lookback.unwrap_or_default())
    }
}

impl Job {
    /// The days that the rows of a source are of which some experiment takes, up to a day; none where no experiment is of
    /// days.
    fn days_of(&self, source: &str, until: Date) -> Option<Days> {
        let of_source = |experiment: &&Experiment| {
            let mut metrics = experiment.metrics.iter().chain(&experiment.exposure);
            experiment.is_of_days() && metrics.any(|metric| metric.source == source)
        };
        let days =
            self.experiments.iter().filter(of_source).map(|experiment| {
                (experiment.first_day(), experiment.end.unwrap_or(until).min(until))
            });
        let days = days.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        days.filter(|(from, to)| from <= to).map(|(from, to)| Days { from, to })
    }
}

impl Runner {
    /// Looks at the sources whose unit-days are kept, up to a day.
    pub(crate) async fn look(&self, until: Date) -> Looked<'_> {
        let mut looked = Looked {
            days: DaysOfSources::new(),
            failed: BTreeMap::new(),
            assigned: Ok(Assigned::default()),
            assignments: None,
            unread: BTreeSet::new(),
        };
        for (name, source) in &self.job().sources {
            if self.job().days_of(name, until).is_none() {
                continue;
            }
            match UnitDays::look(self.job(), self.engine(), self.store(), source).await {
                Ok(days) => {
                    looked.days.insert(name.clone(), days);
                }
                Err(error) => {
                    looked.failed.insert(name.clone(), error.about(&format!("source '{name}'")));
                }
            }
        }
        if !looked.days.is_empty() {
            let of_days =
                self.job().experiments.iter().filter(|experiment| experiment.is_of_days());
            match units::assignments(self.job(), self.engine()).await {
                Ok(rows) => {
                    let experiments: Vec<&Experiment> = of_days.collect();
                    looked.assigned =
                        Assigned::read(self.job(), self.engine(), &rows, &experiments).await;
                    looked.assignments = Some(Kept::as_is(rows));
                }
                Err(error) => looked.assigned = Err(error),
            }
        }
        looked
    }
}

impl Looked<'_> {
    /// The parts that are to be read before results up to a day are made.
    pub(crate) fn due(&self, job: &Job, until: Date) -> Result<Vec<DuePart>> {
        let mut due = Vec::new();
        for (name, days) in &self.days {
            if let Some(range) = job.days_of(name, until) {
                due.extend(days.due(range)?);
            }
        }
        Ok(due)
    }

    /// Reads the parts that are due, some of a source at once; a source that cannot be read fails alone.
    pub(crate) async fn read(
        &mut self,
        due: &[DuePart],
        at_once: usize,
        run_id: &str,
    ) -> Result<()> {
        let mut failed = BTreeMap::new();
        for (name, days) in &mut self.days {
            let of_source: Vec<DuePart> =
                due.iter().filter(|d| d.source == *name).cloned().collect();
            if of_source.is_empty() {
                continue;
            }
            match days.read(&of_source, at_once, run_id).await {
                Ok(()) => {}
                // Another run is at the same work.
                Err(error @ JobError::Changed(_)) => return Err(error),
                Err(error) => {
                    failed.insert(name.clone(), error);
                }
            }
        }
        self.failed.extend(failed);
        Ok(())
    }

    /// Rows of parts, as far as they could be read.
    pub(crate) fn rows_of(&self, parts: &[DuePart]) -> u64 {
        let rows =
            |part: &DuePart| self.days.get(&part.source).map_or(0, |d| d.rows_of(&part.part));
        parts.iter().map(rows).sum()
    }

    /// The rows of the assignments, where some experiment is of days.
    pub(crate) fn assignments(&self) -> Option<&DataFrame> {
        self.assignments.as_ref().map(Kept::rows)
    }

    /// Holds what many queries are about: the assignments of experiments that are due, each with its dates in their order,
    /// and the unit-days from which these are made. `continued` says whether totals go on from those of the day before.
    pub(crate) async fn hold(
        &mut self,
        runner: &Runner,
        due: &[(Experiment, Days)],
        continued: impl Fn(&Experiment, Date) -> bool,
    ) -> Result<()> {
        let limits = runner.limits();
        let bytes = limits.memory.map_or(HELD_AT_MOST, |memory| HELD_AT_MOST.min(memory / SHARE));
        if let (Some(rows), Ok(assigned)) = (self.assignments(), &self.assigned) {
            let of_due = due.iter().map(|(experiment, _)| assigned.rows_of(&experiment.name));
            let size = of_due.sum::<u64>().saturating_mul(BYTES_OF_A_ROW);
            let experiment = runner.job.assignments.section.experiment.as_deref();
            let is_small = size <= bytes as u64 && !runner.engine.is_cluster();
            if is_small {
                self.assignments = Some(runner.engine.held(rows.clone()).await?);
            } else if let Some(by) = experiment.filter(|_| due.len() > 1) {
                let names = due.iter().map(|(experiment, _)| lit(experiment.name.clone()));
                let whose = cast(ident(by), DataType::Utf8).in_list(names.collect(), false);
                let rows = rows.clone().filter(whose)?;
                self.assignments = Some(runner.engine.kept(rows, Some(by)).await?);
            }
        }
        let (Some(assignments), Ok(assigned)) = (self.assignments.clone(), &self.assigned) else {
            return Ok(());
        };
        for (name, days) in &mut self.days {
            let of_source = |(experiment, _): &&(Experiment, Days)| {
                let mut metrics = experiment.metrics.iter().chain(&experiment.exposure);
                metrics.any(|metric| metric.source == *name)
            };
            let needed = due.iter().filter(of_source).map(|(experiment, Days { from, to })| {
                let of_new = experiment.first_day();
                let goes_on = experiment.is_of_totals() && continued(experiment, *from);
                let from = if goes_on { *from } else { of_new };
                (experiment.name.clone(), Needed { all: Days { from, to: *to }, of_new })
            });
            let needed: BTreeMap<String, Needed> = needed.collect();
            let units = needed.keys().map(|name| assigned.rows_of(name)).sum();
            days.hold((assignments.rows(), units), needed, bytes).await?;
        }
        Ok(())
    }

    /// An experiment without the metrics that cannot be measured.
    pub(crate) fn measurable(&self, experiment: &Experiment) -> Experiment {
        let failed = experiment.metrics.iter().filter_map(|metric| {
            let error = self.days.get(&metric.source)?.failed().get(&metric.name)?;
            Some((metric.name.clone(), error.clone()))
        });
        let failed = if experiment.is_of_days() { failed.collect() } else { BTreeMap::new() };
        experiment.without(&failed)
    }
}
