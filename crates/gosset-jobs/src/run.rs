//! Running a job: computing what is missing, and publishing it in one commit for each table.

use std::collections::BTreeSet;
use std::fmt;

use arrow::array::RecordBatch;
use datafusion::logical_expr::Expr;
use gosset_engine::delta::{DeltaStore, DeltaTableHandle, any_of};
use gosset_engine::{Engine, EngineError, EngineOptions, location, shown};
use jiff::civil::Date;

use crate::analyse::{Analysed, Dated};
use crate::audit::Audit;
use crate::descriptor::{Descriptor, Fingerprints};
use crate::job::{Experiment, Job, Metric};
use crate::looked::Looked;
use crate::plan::{Asked, Plan, Published, Results, State, Work, key, metadata};
use crate::stored::Stored;
use crate::tables::{
    AUDITS, EFFECTS, PARTITION, SUMMARIES, audits_batch, audits_schema, effects_batch,
    effects_schema, rows_of, summaries_batch, summaries_schema,
};
use crate::{JobError, Result, internal};

/// Runs one job.
pub struct Runner {
    job: Job,
    engine: Engine,
    store: DeltaStore,
}

/// What a run tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It knows what is to be done.
    Planned {
        /// Dates of experiments to compute.
        due: usize,
        /// All dates of all experiments.
        all: usize,
    },
    /// It computes a wave of an experiment.
    Computing {
        /// Which experiment.
        experiment: String,
        /// Which date of it.
        date: Option<Date>,
        /// Which wave, from 1 on.
        wave: usize,
        /// Of how many.
        waves: usize,
    },
    /// It reads the parts of sources that are due.
    Reading {
        /// How many.
        parts: usize,
    },
    /// A date of an experiment is computed, or failed.
    Computed {
        /// Which experiment.
        experiment: String,
    },
    /// It publishes a table.
    Publishing {
        /// Which.
        table: &'static str,
    },
}

/// A date of an experiment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The experiment.
    pub experiment: String,
    /// The date; none where nothing has a time.
    pub date: Option<Date>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date {
            Some(date) => write!(f, "{} {date}", self.experiment),
            None => f.write_str(&self.experiment),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Parts of sources that were read.
    pub read: usize,
    /// Results that were published, with the number of effects.
    pub published: Vec<(Place, usize)>,
    /// The version of `effects`, if it changed.
    pub version: Option<u64>,
    /// Results that were published already.
    pub up_to_date: Vec<Place>,
    /// Experiments that are not due yet, with the day that must be over.
    pub not_due: Vec<(String, Date)>,
    /// Results whose effects are kept back, with the audits that failed.
    pub blocked: Vec<(Place, Vec<String>)>,
    /// Audits that failed and do not block.
    pub warnings: Vec<(Place, String)>,
    /// Results that could not be computed, and why. Later dates of the experiment wait for it.
    pub failed: Vec<(Place, JobError)>,
}

/// The tables, as of the versions that a run starts from.
struct Tables {
    summaries: DeltaTableHandle,
    audits: DeltaTableHandle,
    effects: DeltaTableHandle,
}

/// The results of an experiment, computed and not published.
struct Computed {
    place: Place,
    results: Results,
    /// Those of the summaries, if there are any: what they are made of is less.
    totals: Option<(Results, RecordBatch)>,
    audits: RecordBatch,
    effects: RecordBatch,
    rows: Expr,
    warnings: Vec<Audit>,
}

impl Computed {
    fn bytes(&self) -> usize {
        let totals = self.totals.as_ref().map_or(0, |(_, rows)| rows.get_array_memory_size());
        totals + self.audits.get_array_memory_size() + self.effects.get_array_memory_size()
    }
}

/// Bytes of results that are held before they are published.
const BYTES_AT_ONCE: usize = 64 << 20;

impl Runner {
    /// Prepares to run a job with the given limits.
    ///
    /// # Errors
    /// If the store's location or the limits are wrong.
    pub fn new(job: Job, options: EngineOptions) -> Result<Self> {
        // Where a unit is known by the position of its row, rows are read in their order.
        let options = if job.needs_order() { options.with_target_partitions(1) } else { options };
        let engine = Engine::new(options)?;
        let store = DeltaStore::open(&job.store, &engine)?;
        Ok(Self { job, engine, store })
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Where its queries run.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where its results are.
    pub fn store(&self) -> &DeltaStore {
        &self.store
    }

    /// Checks the name of an experiment.
    ///
    /// # Errors
    /// [`JobError::File`] if the job has none of that name.
    pub fn check_experiment(&self, name: &str) -> Result<()> {
        self.experiment(name).map(|_| ())
    }

    /// An experiment by its name.
    pub(crate) fn experiment(&self, name: &str) -> Result<&Experiment> {
        let found = self.job.experiments.iter().find(|e| e.name == name);
        found.ok_or_else(|| JobError::File(format!("the experiment '{name}' is not defined")))
    }

    /// Computes what is missing and publishes it.
    ///
    /// # Errors
    /// If the store fails, or another run published the same results meanwhile as others. What is wrong with one experiment
    /// does not stop the others and is told in the [`Outcome`].
    pub async fn run(&self, asked: &Asked, tell: &(dyn Fn(Event) + Sync)) -> Result<Outcome> {
        // The snapshots that the commits start from are older than the plan: whoever publishes in between wins.
        let mut tables = self.tables_if_any().await?;
        let run_id = uuid::Uuid::new_v4().to_string();
        let mut looked = self.look(asked.until).await;
        let parts = looked.due(self.job(), asked.until)?;
        let mut outcome = Outcome { read: parts.len(), ..Outcome::default() };
        if !parts.is_empty() {
            tell(Event::Reading { parts: parts.len() });
            looked.read(&parts, &run_id).await?;
        }
        let plan = self.planned(&looked, Vec::new(), asked).await?;
        tell(Event::Planned { due: plan.due().count(), all: plan.work.len() });
        let totals = self.newest(SUMMARIES, asked.until).await?;
        let mut computed = Vec::new();
        let of_experiment = |a: &Work, b: &Work| a.experiment == b.experiment;
        for works in plan.work.chunk_by(of_experiment) {
            let mut before: Option<(Date, Stored)> = None;
            for work in works {
                let place = Place { experiment: work.experiment.clone(), date: work.analysis_date };
                match &work.state {
                    State::UpToDate(published) if published.results.blocked.is_empty() => {
                        outcome.up_to_date.push(place);
                    }
                    State::UpToDate(published) => {
                        outcome.blocked.push((place, published.results.blocked.clone()));
                    }
                    State::NotDue(day) => outcome.not_due.push((work.experiment.clone(), *day)),
                    State::Failed(error) => {
                        outcome.failed.push((place, error.clone()));
                        break;
                    }
                    State::Missing | State::Stale(_) => {
                        let made = self.compute(work, &looked, &totals, before.take(), tell).await;
                        tell(Event::Computed { experiment: work.experiment.clone() });
                        match made {
                            Ok((results, stored)) => {
                                before = work.analysis_date.map(|date| (date, stored));
                                computed.push(results);
                            }
                            Err(error) => {
                                outcome.failed.push((place, error));
                                break;
                            }
                        }
                        if computed.iter().map(Computed::bytes).sum::<usize>() > BYTES_AT_ONCE {
                            let made = std::mem::take(&mut computed);
                            self.published_now(
                                &mut tables,
                                made,
                                asked,
                                &run_id,
                                &mut outcome,
                                tell,
                            )
                            .await?;
                        }
                    }
                }
            }
        }
        if !computed.is_empty() {
            self.published_now(&mut tables, computed, asked, &run_id, &mut outcome, tell).await?;
        }
        Ok(outcome)
    }

    /// Publishes results, and tells what became of them.
    async fn published_now(
        &self,
        tables: &mut Option<Tables>,
        computed: Vec<Computed>,
        asked: &Asked,
        run_id: &str,
        outcome: &mut Outcome,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<()> {
        let version = self.publish(tables, &computed, asked, run_id, tell).await?;
        outcome.version = version.or(outcome.version);
        for Computed { place, results, warnings, .. } in computed {
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

    async fn tables_if_any(&self) -> Result<Option<Tables>> {
        let effects = self.store.existing(EFFECTS).await?;
        let audits = self.store.existing(AUDITS).await?;
        match effects.is_some() && audits.is_some() {
            true => Ok(Some(self.tables().await?)),
            false => Ok(None),
        }
    }

    async fn compute(
        &self,
        work: &Work,
        looked: &Looked<'_>,
        totals: &Published,
        before: Option<(Date, Stored)>,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<(Computed, Stored)> {
        let experiment = self.experiment(&work.experiment)?;
        let date = work.analysis_date;
        let of_totals = work.desired.of_totals(experiment);
        let mut fingerprints = Fingerprints::default();
        let dated = Dated {
            experiment,
            date,
            days: &looked.days,
            late: work.late,
            stored: self.stored(experiment, date, &of_totals, totals).await?,
            before: match (date.filter(|_| experiment.is_daily()), before) {
                (Some(date), Some((of, stored))) if date.yesterday().is_ok_and(|day| day == of) => {
                    Some(stored)
                }
                (Some(date), _) => match date.yesterday() {
                    Ok(yesterday) if experiment.start.is_some_and(|start| start <= yesterday) => {
                        let desired = self.desired(
                            experiment,
                            Some(yesterday),
                            looked,
                            work.late,
                            &mut fingerprints,
                        );
                        let desired = desired.await?.of_totals(experiment);
                        self.stored(experiment, Some(yesterday), &desired, totals).await?
                    }
                    _ => None,
                },
                _ => None,
            },
        };
        let Analysed { audits, effects, summaries } = self.analysed(dated, tell).await?;
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
        let results = Results {
            job: self.job.name.clone(),
            experiment: experiment.name.clone(),
            analysis_date: date.map(|date| date.to_string()),
            descriptor: work.desired.clone(),
            rows: effects.len() as u64,
            blocked,
        };
        let totals = match summaries.is_empty() {
            true => None,
            false => {
                let rows = summaries.len() as u64;
                let of =
                    Results { descriptor: of_totals, rows, blocked: Vec::new(), ..results.clone() };
                Some((of, summaries_batch(&self.job, place, &summaries)?))
            }
        };
        let computed = Computed {
            place: Place { experiment: experiment.name.clone(), date },
            results,
            totals,
            audits: audits_batch(&self.job, place, &audits)?,
            effects: effects_batch(&self.job, place, &effects)?,
            rows: rows_of(&self.job.name, &experiment.name, date),
            warnings: audits.into_iter().filter(|a| a.failed && !a.blocking).collect(),
        };
        Ok((computed, Stored::of(summaries)))
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

    /// Rows that cannot be read are told with the inputs that they are in.
    pub(crate) fn while_reading(&self, experiment: &Experiment, error: JobError) -> JobError {
        if !matches!(error, JobError::Data(_)) {
            return error;
        }
        let sources = experiment.metrics.iter().map(|m| &self.job.sources[&m.source].section.url);
        let urls: BTreeSet<&String> =
            std::iter::once(&self.job.assignments.url).chain(sources).collect();
        let shown: Vec<String> = urls
            .into_iter()
            .filter_map(|url| Some(format!("'{}'", shown(&location(url).ok()?))))
            .collect();
        error.about(&format!("reading {}", shown.join(" and ")))
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
