//! What there is before a plan: the unit-days of each source, and who was assigned on which day.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use crate::analyse::DaysOfSources;
use crate::assigned::Assigned;
use crate::days::{Days, DuePart, UnitDays};
use crate::job::{Experiment, Job};
use crate::period::days_before;
use crate::run::Runner;
use crate::{JobError, Result};

/// Everything that a plan is made of besides what is published.
pub(crate) struct Looked<'a> {
    pub(crate) days: DaysOfSources<'a>,
    /// Sources that cannot be looked at, and why.
    pub(crate) failed: BTreeMap<String, JobError>,
    pub(crate) assigned: Result<Assigned>,
    /// Sources with parts that are due and not read.
    pub(crate) unread: BTreeSet<String>,
}

impl Job {
    /// The days that the rows of a source are of which some experiment takes, up to a day; none where no experiment is of
    /// days.
    fn days_of(&self, source: &str, until: Date) -> Option<Days> {
        let of_source = |experiment: &&Experiment| {
            experiment.is_of_days() && experiment.metrics.iter().any(|m| m.source == source)
        };
        let days = self.experiments.iter().filter(of_source).map(|experiment| {
            let lookback = experiment.metrics.iter().filter_map(|metric| metric.lookback).max();
            let start = experiment.start.unwrap_or(Date::MIN);
            let from = days_before(start, lookback.unwrap_or_default());
            (from, experiment.end.unwrap_or(until).min(until))
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
            let experiments: Vec<&Experiment> = self
                .job()
                .experiments
                .iter()
                .filter(|experiment| experiment.is_of_days())
                .collect();
            looked.assigned = Assigned::read(self.job(), self.engine(), &experiments).await;
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
}
