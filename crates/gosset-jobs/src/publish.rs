//! Publishing results: one commit for each table.

use arrow::array::RecordBatch;
use datafusion::logical_expr::Expr;
use gosset_engine::EngineError;
use gosset_engine::delta::{DeltaTableHandle, any_of};
use tracing::Instrument;

use crate::audit::Audit;
use crate::plan::{Asked, Plan, Results, State, Work, metadata};
use crate::run::{Event, Outcome, Place, Runner};
use crate::tables::{
    AUDITS, EFFECTS, PARTITION, SUMMARIES, audits_schema, effects_schema, summaries_schema,
};
use crate::{JobError, Result, internal};

/// The tables, as of the versions that a run starts from.
pub(crate) struct Tables {
    summaries: DeltaTableHandle,
    audits: DeltaTableHandle,
    effects: DeltaTableHandle,
}

/// The results of an experiment, computed and not published.
pub(crate) struct Computed {
    pub(crate) place: Place,
    pub(crate) results: Results,
    /// Metrics that could not be measured, and why.
    pub(crate) failed: Vec<(String, JobError)>,
    /// Those of the summaries, if there are any: what they are made of is less.
    pub(crate) totals: Option<(Results, RecordBatch)>,
    pub(crate) audits: RecordBatch,
    pub(crate) effects: RecordBatch,
    pub(crate) rows: Expr,
    pub(crate) warnings: Vec<Audit>,
}

impl Computed {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let totals = self.totals.as_ref().map_or(0, |(_, rows)| rows.get_array_memory_size());
        totals + self.audits.get_array_memory_size() + self.effects.get_array_memory_size()
    }
}

impl Runner {
    /// Publishes results, and tells what became of them.
    pub(crate) async fn publish_results(
        &self,
        tables: &mut Option<Tables>,
        computed: Vec<Computed>,
        asked: &Asked,
        run_id: &str,
        outcome: &mut Outcome,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<()> {
        let span = tracing::info_span!("publish", run_id, results = computed.len());
        let publishing = self.publish(tables, &computed, asked, run_id, tell);
        let version = publishing.instrument(span).await?;
        outcome.version = version.or(outcome.version);
        for Computed { place, results, failed, warnings, .. } in computed {
            let told = failed.into_iter().map(|(metric, error)| (place.clone(), metric, error));
            outcome.failed_metrics.extend(told);
            let told = warnings.iter().map(|audit| (place.clone(), audit.shown()));
            outcome.warnings.extend(told);
            if version.is_none() && results.blocked.is_empty() {
                // Another run was faster.
                outcome.up_to_date.push(place);
            } else if results.blocked.is_empty() {
                outcome.published.push((place, results.rows as usize));
            } else {
                outcome.blocked.push((place, results.blocked));
            }
        }
        Ok(())
    }

    /// The tables, for writing. They are created when there is something to publish.
    async fn tables(&self) -> Result<Tables> {
        Ok(Tables {
            effects: self.store.table(EFFECTS, effects_schema(), &PARTITION).await?,
            audits: self.store.table(AUDITS, audits_schema(), &PARTITION).await?,
            summaries: self.store.table(SUMMARIES, summaries_schema(), &PARTITION).await?,
        })
    }

    pub(crate) async fn tables_if_any(&self) -> Result<Option<Tables>> {
        let effects = self.store.existing(EFFECTS).await?;
        let audits = self.store.existing(AUDITS).await?;
        match effects.is_some() && audits.is_some() {
            true => Ok(Some(self.tables().await?)),
            false => Ok(None),
        }
    }

    /// One commit of `summaries`, one of `audits`, then one of `effects`: a reader trusts results once their effects are
    /// there.
    async fn publish(
        &self,
        tables: &mut Option<Tables>,
        computed: &[Computed],
        asked: &Asked,
        run_id: &str,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Option<u64>> {
        let results: Vec<Results> = computed.iter().map(|c| c.results.clone()).collect();
        let metadata_of_results = metadata(&results)?;
        let rows = || any_of(computed.iter().map(|c| c.rows.clone()));
        if tables.is_none() {
            let made = self.tables().await?;
            if made.audits.version() > 0 || made.effects.version() > 0 {
                let meanwhile = "another run published in this store meanwhile";
                let lost: Result<Tables, _> = Err(EngineError::Conflict(meanwhile.into()));
                if self.conflict(lost, &results, asked).await?.is_none() {
                    return Ok(None);
                }
            }
            *tables = Some(made);
        }
        let Some(Tables { summaries, audits, effects }) = tables else {
            return Err(internal("there are no tables"));
        };
        let totals: Vec<&(Results, RecordBatch)> =
            computed.iter().filter_map(|computed| computed.totals.as_ref()).collect();
        let of_totals: Vec<Results> = totals.iter().map(|(of, _)| of.clone()).collect();
        if !totals.is_empty() && !self.holds(summaries, &of_totals).await? {
            tell(Event::Publishing { table: SUMMARIES });
            let with_totals = computed.iter().filter(|c| c.totals.is_some());
            let rows = any_of(with_totals.map(|c| c.rows.clone()));
            let batches = totals.iter().map(|(_, batch)| batch.clone()).collect();
            let done = summaries.replace(batches, rows, &metadata(&of_totals)?, run_id).await;
            let Some(done) = self.conflict(done, &results, asked).await? else { return Ok(None) };
            let (version, rows) = (done.version, done.rows);
            tracing::info!(table = SUMMARIES, version, rows, run_id, "published");
        }
        // Who saw the audits of the same run, not its effects yet, has no audits to add.
        if !self.holds(audits, &results).await? {
            tell(Event::Publishing { table: AUDITS });
            let batches = computed.iter().map(|c| c.audits.clone()).collect();
            let done = audits.replace(batches, rows(), &metadata_of_results, run_id).await;
            let Some(done) = self.conflict(done, &results, asked).await? else { return Ok(None) };
            let (version, rows) = (done.version, done.rows);
            tracing::info!(table = AUDITS, version, rows, run_id, "published");
        }
        tell(Event::Publishing { table: EFFECTS });
        let batches = computed.iter().map(|c| c.effects.clone()).collect();
        let done = effects.replace(batches, rows(), &metadata_of_results, run_id).await;
        let Some(done) = self.conflict(done, &results, asked).await? else { return Ok(None) };
        let (version, rows) = (done.version, done.rows);
        tracing::info!(table = EFFECTS, version, rows, run_id, "published");
        Ok(Some(version))
    }

    /// Losing a race to a run that published the same is no failure.
    async fn conflict<T>(
        &self,
        done: Result<T, EngineError>,
        results: &[Results],
        asked: &Asked,
    ) -> Result<Option<T>> {
        let error = match done {
            Ok(done) => return Ok(Some(done)),
            Err(error @ EngineError::Conflict(_)) => error,
            Err(error) => return Err(error.into()),
        };
        // The winner may have published its audits and be about to publish its effects.
        for wait in [0, 200, 1000, 3000] {
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            let Plan { work, .. } = self.plan(asked).await?;
            let published = |r: &Results| {
                let date = |w: &Work| w.analysis_date.map(|date| date.to_string());
                let is_of = |w: &&Work| w.experiment == r.experiment && date(w) == r.analysis_date;
                work.iter().filter(is_of).any(|w| matches!(w.state, State::UpToDate(_)))
            };
            if results.iter().all(published) {
                tracing::info!("another run published the same results");
                return Ok(None);
            }
        }
        Err(error.into())
    }
}
