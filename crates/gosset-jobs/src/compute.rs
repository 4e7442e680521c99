//! Computing a date of an experiment: its results, not published yet.

use std::collections::BTreeMap;

use arrow::compute::concat_batches;
use jiff::civil::Date;

use crate::analyse::{Analysed, Dated, Divided};
use crate::audit::Audit;
use crate::descriptor::{Descriptor, Fingerprints};
use crate::job::{Experiment, Metric};
use crate::plan::{Published, Results, Work, key};
use crate::publish::Computed;
use crate::run::{Basis, Event, Place, Runner};
use crate::stored::Stored;
use crate::tables::{
    SUMMARIES, audits_batch, audits_schema, effects_batch, effects_schema, rows_of, summaries_batch,
};
use crate::unaffected::Unaffected;
use crate::{JobError, Result};

impl Runner {
    /// Computes a date of an experiment.
    pub(crate) async fn compute(
        &self,
        work: &Work,
        known: &Basis<'_>,
        waves: &Divided,
        before: Option<(Date, Stored)>,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<(Computed, Stored)> {
        let Basis { looked, totals, afresh, .. } = *known;
        let experiment = &looked.measurable(self.experiment(&work.experiment)?);
        let date = work.analysis_date;
        let of_totals = work.desired.of_totals(experiment);
        let mut fingerprints = Fingerprints::default();
        let mut dated = Dated {
            experiment,
            date,
            days: &looked.days,
            assignments: looked.assignments().filter(|_| experiment.is_of_days()),
            waves,
            late: work.late,
            stored: None,
            before: None,
        };
        if !afresh {
            dated.stored = self.stored(experiment, date, &of_totals, totals).await?;
            let yesterday = date.filter(|_| experiment.is_daily()).and_then(|d| d.yesterday().ok());
            let yesterday =
                yesterday.filter(|day| experiment.start.is_some_and(|start| start <= *day));
            dated.before = match (yesterday, before) {
                (Some(yesterday), Some((day, stored))) if day == yesterday => Some(stored),
                (Some(yesterday), _) => {
                    let date = Some(yesterday);
                    let desired =
                        self.desired(experiment, date, looked, work.late, &mut fingerprints);
                    let desired = desired.await?.of_totals(experiment);
                    self.stored(experiment, date, &desired, totals).await?
                }
                (None, _) => None,
            };
        }
        let kept = match afresh {
            true => None,
            false => self.unaffected(experiment, date, &work.kept).await?,
        };
        let made = match &kept {
            Some(kept) => self.affected(&dated, kept, tell).await?,
            None => None,
        };
        let (Analysed { audits, effects, summaries, failed }, kept) = match made {
            Some(made) => (made, kept),
            None => (self.analysed(dated, tell).await?, None),
        };
        let blocked: Vec<String> = audits.iter().filter(|a| a.blocks()).map(Audit::shown).collect();
        if !experiment.is_of_days() {
            let mut now = Fingerprints::default();
            let inputs =
                Descriptor::read_inputs(&self.job, experiment, &self.engine, &mut now).await?;
            if inputs != work.desired.inputs {
                return Err(JobError::Changed("an input changed while it was read".into()));
            }
        }
        let place = (experiment, date);
        let mut all_effects = vec![effects_batch(&self.job, place, &effects)?];
        let mut all_audits = vec![audits_batch(&self.job, place, &audits)?];
        if let Some(kept) = &kept {
            all_effects.extend(kept.effects()?);
            all_audits.extend(kept.audits(experiment, &audits)?);
        }
        let all_effects = concat_batches(&effects_schema(), &all_effects)?;
        let results = Results {
            job: self.job.name.clone(),
            experiment: experiment.name.clone(),
            analysis_date: date.map(|date| date.to_string()),
            descriptor: work.desired.clone(),
            rows: all_effects.num_rows() as u64,
            blocked,
            failed: failed.iter().map(|(name, error)| (name.clone(), error.to_string())).collect(),
        };
        let totals = match summaries.is_empty() {
            true => None,
            false => {
                let rows = summaries.len() as u64;
                let of = Results {
                    descriptor: of_totals,
                    rows,
                    blocked: Vec::new(),
                    failed: BTreeMap::new(),
                    ..results.clone()
                };
                Some((of, summaries_batch(&self.job, place, &summaries)?))
            }
        };
        let computed = Computed {
            place: Place::of(work),
            results,
            failed,
            totals,
            audits: concat_batches(&audits_schema(), &all_audits)?,
            effects: all_effects,
            rows: rows_of(&self.job.name, &experiment.name, date),
            warnings: audits.into_iter().filter(|a| a.failed && !a.blocking).collect(),
        };
        Ok((computed, Stored::of(summaries)))
    }

    /// What the metrics of a date come to which are affected, with the stored totals of the others; nothing where an audit
    /// fails, which is told in the notes of all effects.
    async fn affected(
        &self,
        of: &Dated<'_>,
        kept: &Unaffected,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Option<Analysed>> {
        let stored = of.stored.clone().unwrap_or_default().of_metrics(&kept.metrics());
        let experiment = &of.experiment.with(|metric| !kept.has(&metric.name));
        let mut made = Analysed::default();
        if !experiment.metrics.is_empty() || !experiment.failed.is_empty() {
            let waves = &self.divided(experiment, of.date, of.assignments).await?;
            made = self.analysed(Dated { experiment, waves, ..of.clone() }, tell).await?;
        }
        made.summaries.extend(stored.into_rows());
        Ok((!made.audits.iter().any(|audit| audit.failed)).then_some(made))
    }

    /// The stored totals of a date, of those metrics whose totals would be made the same now.
    async fn stored(
        &self,
        experiment: &Experiment,
        date: Option<Date>,
        desired: &Descriptor,
        published: &Published,
    ) -> Result<Option<Stored>> {
        let Some(found) = published.get(&key(&experiment.name, date)) else { return Ok(None) };
        let holds = |metric: &&Metric| found.results.descriptor.holds(desired, metric);
        let metrics: Vec<&str> =
            experiment.metrics.iter().filter(holds).map(|metric| metric.name.as_str()).collect();
        if metrics.is_empty() {
            return Ok(None);
        }
        let Some(table) = self.store.existing(SUMMARIES).await? else { return Ok(None) };
        let rows = table.read(Some(rows_of(&self.job.name, &experiment.name, date))).await?;
        Ok(Some(Stored::read(&rows)?.of_metrics(&metrics)))
    }
}
