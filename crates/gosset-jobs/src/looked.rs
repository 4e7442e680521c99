//! What there is before a plan: the unit-days of each source, and who was assigned on which day.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::DataFrame;
use jiff::civil::Date;

use crate::analyse::DaysOfSources;
use crate::assigned::Assigned;
use crate::days::{Days, DuePart, UnitDays};
use crate::job::{Experiment, Job};
use crate::period::days_before;
use crate::run::Runner;
use crate::waves::Limits;
use crate::{JobError, Result};

/// Everything that a plan is made of besides what is published.
pub(crate) struct Looked<'a> {
    pub(crate) days: DaysOfSources<'a>,
    /// Sources that cannot be looked at, and why.
    pub(crate) failed: BTreeMap<String, JobError>,
    pub(crate) assigned: Result<Assigned>,
    /// The rows of the assignments, listed once.
    pub(crate) assignments: Option<DataFrame>,
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
            match self.engine().read(&self.job().assignments.url).await {
                Ok(rows) => {
                    let experiments: Vec<&Experiment> = of_days.collect();
                    looked.assigned = Assigned::read(self.job(), &rows, &experiments).await;
                    looked.assignments = Some(rows);
                }
                Err(error) => looked.assigned = Err(error.into()),
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

    /// Reads the parts that are due; a source that cannot be read fails alone.
    pub(crate) async fn read(&mut self, due: &[DuePart], run_id: &str) -> Result<()> {
        let mut failed = BTreeMap::new();
        for (name, days) in &mut self.days {
            let of_source: Vec<DuePart> =
                due.iter().filter(|d| d.source == *name).cloned().collect();
            if of_source.is_empty() {
                continue;
            }
            match days.read(&of_source, run_id).await {
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

    /// Holds what many queries are about in memory, where it is small: the days from which dates that are due are made.
    pub(crate) async fn hold(&mut self, due: &[(&Experiment, Date)], limits: Limits) -> Result<()> {
        let bytes = limits.memory.map_or(HELD_AT_MOST, |memory| HELD_AT_MOST.min(memory / SHARE));
        for (name, days) in &mut self.days {
            let of_source = |(experiment, _): &&(&Experiment, Date)| {
                let mut metrics = experiment.metrics.iter().chain(&experiment.exposure);
                metrics.any(|metric| metric.source == *name)
            };
            let ranges = due.iter().filter(of_source).map(|(experiment, date)| {
                // Totals go on from those of the day before.
                let from = if experiment.is_of_totals() { *date } else { experiment.first_day() };
                Days { from, to: *date }
            });
            let range = ranges.reduce(|a, b| Days { from: a.from.min(b.from), to: a.to.max(b.to) });
            if let Some(range) = range {
                days.hold(range, bytes).await?;
            }
        }
        if let (Some(rows), Ok(assigned)) = (&self.assignments, &self.assigned)
            && assigned.rows().saturating_mul(BYTES_OF_A_ROW) <= bytes as u64
        {
            self.assignments = Some(rows.clone().cache().await?);
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
