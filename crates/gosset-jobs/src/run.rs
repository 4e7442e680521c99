//! Running a job: computing what is missing, and publishing it in one commit for each table.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use datafusion::logical_expr::Expr;
use gosset_engine::delta::{DeltaStore, DeltaTableHandle, any_of};
use gosset_engine::{Engine, EngineError, EngineOptions, location, shown};
use jiff::civil::Date;

use crate::audit::Audit;
use crate::descriptor::{Descriptor, Fingerprints};
use crate::job::{Experiment, Job};
use crate::plan::{Plan, Results, State, Work, metadata};
use crate::tables::{
    AUDITS, EFFECTS, PARTITION, audits_batch, audits_schema, effects_batch, effects_schema, rows_of,
};
use crate::{JobError, Result};

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
        /// Experiments to compute.
        due: usize,
        /// All experiments.
        all: usize,
    },
    /// It computes a wave of an experiment.
    Computing {
        /// Which experiment.
        experiment: String,
        /// Which wave, from 1 on.
        wave: usize,
        /// Of how many.
        waves: usize,
    },
    /// An experiment is computed.
    Computed {
        /// Which.
        experiment: String,
    },
    /// It publishes a table.
    Publishing {
        /// Which.
        table: &'static str,
    },
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Experiments whose effects were published, with the number of rows.
    pub published: Vec<(String, usize)>,
    /// The version of `effects`, if it changed.
    pub version: Option<u64>,
    /// Experiments that were published already.
    pub up_to_date: Vec<String>,
    /// Experiments that are not due yet, with their ends.
    pub not_due: Vec<(String, Date)>,
    /// Experiments whose effects are kept back, with the audits that failed.
    pub blocked: Vec<(String, Vec<String>)>,
    /// Audits that failed and do not block, by experiment.
    pub warnings: Vec<(String, String)>,
    /// Experiments that could not be computed, and why.
    pub failed: Vec<(String, JobError)>,
}

/// Both tables, as of the versions that a run starts from.
struct Tables {
    audits: DeltaTableHandle,
    effects: DeltaTableHandle,
}

/// The results of an experiment, computed and not published.
struct Computed {
    results: Results,
    audits: RecordBatch,
    effects: RecordBatch,
    rows: Expr,
    warnings: Vec<Audit>,
}

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

    /// An experiment by its name.
    pub(crate) fn experiment(&self, name: &str) -> Result<&Experiment> {
        let found = self.job.experiments.iter().find(|e| e.name == name);
        found.ok_or_else(|| JobError::File(format!("the experiment '{name}' is not defined")))
    }

    /// Computes what is missing up to a day and publishes it.
    ///
    /// # Errors
    /// If the store fails, or another run published the same experiments meanwhile with other results. What is wrong
    /// with one experiment does not stop the others and is told in the [`Outcome`].
    pub async fn run(&self, until: Date, tell: &(dyn Fn(Event) + Sync)) -> Result<Outcome> {
        // The snapshots that the commits start from are older than the plan: whoever publishes in between wins.
        let tables = self.tables_if_any().await?;
        let plan = self.plan(until).await?;
        tell(Event::Planned { due: plan.due().count(), all: plan.work.len() });
        let mut outcome = Outcome::default();
        let mut computed = Vec::new();
        for work in &plan.work {
            match &work.state {
                State::UpToDate(published) if published.results.blocked.is_empty() => {
                    outcome.up_to_date.push(work.experiment.clone());
                }
                State::UpToDate(published) => {
                    outcome
                        .blocked
                        .push((work.experiment.clone(), published.results.blocked.clone()));
                }
                State::NotDue(end) => outcome.not_due.push((work.experiment.clone(), *end)),
                State::Failed(error) => {
                    outcome.failed.push((work.experiment.clone(), error.clone()))
                }
                State::Missing | State::Stale(_) => {
                    match self.compute(work, tell).await {
                        Ok(results) => computed.push(results),
                        Err(error) => outcome.failed.push((work.experiment.clone(), error)),
                    }
                    tell(Event::Computed { experiment: work.experiment.clone() });
                }
            }
        }
        if !computed.is_empty() {
            outcome.version = self.publish(tables, &computed, until, tell).await?;
        }
        for Computed { results, warnings, .. } in computed {
            let name = results.experiment;
            let told = warnings.iter().map(|audit| (name.clone(), audit.shown()));
            outcome.warnings.extend(told);
            if outcome.version.is_none() && results.blocked.is_empty() {
                // Another run was faster.
                outcome.up_to_date.push(name);
            } else if results.blocked.is_empty() {
                outcome.published.push((name, results.rows as usize));
            } else {
                outcome.blocked.push((name, results.blocked));
            }
        }
        Ok(outcome)
    }

    /// Both tables, for writing. They are created when there is something to publish.
    async fn tables(&self) -> Result<Tables> {
        Ok(Tables {
            effects: self.store.table(EFFECTS, effects_schema(), &PARTITION).await?,
            audits: self.store.table(AUDITS, audits_schema(), &PARTITION).await?,
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

    async fn compute(&self, work: &Work, tell: &(dyn Fn(Event) + Sync)) -> Result<Computed> {
        let experiment = self.experiment(&work.experiment)?;
        let (audits, effects) = self.analysed(experiment, tell).await?;
        let blocked: Vec<String> = audits.iter().filter(|a| a.blocks()).map(Audit::shown).collect();
        let mut now = Fingerprints::default();
        let inputs = Descriptor::read_inputs(&self.job, experiment, &self.engine, &mut now).await?;
        if inputs != work.desired.inputs {
            return Err(JobError::Changed("an input changed while it was read".into()));
        }
        let date = experiment.analysis_date();
        Ok(Computed {
            results: Results {
                job: self.job.name.clone(),
                experiment: experiment.name.clone(),
                analysis_date: date.map(|date| date.to_string()),
                descriptor: work.desired.clone(),
                rows: effects.len() as u64,
                blocked,
            },
            audits: audits_batch(&self.job, experiment, &audits)?,
            effects: effects_batch(&self.job, experiment, &effects)?,
            rows: rows_of(&self.job.name, &experiment.name, date),
            warnings: audits.into_iter().filter(|a| a.failed && !a.blocking).collect(),
        })
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

    /// One commit of `audits`, then one of `effects`: a reader trusts results once their effects are there.
    async fn publish(
        &self,
        tables: Option<Tables>,
        computed: &[Computed],
        until: Date,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Option<u64>> {
        let results: Vec<Results> = computed.iter().map(|c| c.results.clone()).collect();
        let metadata = metadata(&results)?;
        let run_id = uuid::Uuid::new_v4().to_string();
        let rows = || any_of(computed.iter().map(|c| c.rows.clone()));
        let Tables { mut audits, mut effects } = match tables {
            Some(tables) => tables,
            None => {
                let tables = self.tables().await?;
                if tables.audits.version() > 0 || tables.effects.version() > 0 {
                    let meanwhile = "another run published in this store meanwhile";
                    let lost: Result<Tables, _> = Err(EngineError::Conflict(meanwhile.into()));
                    let Some(tables) = self.conflict(lost, &results, until).await? else {
                        return Ok(None);
                    };
                    tables
                } else {
                    tables
                }
            }
        };
        // Who saw the audits of the same run, not its effects yet, has no audits to add.
        if !self.holds(&audits, &results).await? {
            tell(Event::Publishing { table: AUDITS });
            let batches = computed.iter().map(|c| c.audits.clone()).collect();
            let done = audits.replace(batches, rows(), &metadata, &run_id).await;
            let Some(done) = self.conflict(done, &results, until).await? else { return Ok(None) };
            let (version, rows) = (done.version, done.rows);
            tracing::info!(table = AUDITS, version, rows, run_id, "published");
        }
        tell(Event::Publishing { table: EFFECTS });
        let batches = computed.iter().map(|c| c.effects.clone()).collect();
        let done = effects.replace(batches, rows(), &metadata, &run_id).await;
        let Some(done) = self.conflict(done, &results, until).await? else { return Ok(None) };
        let (version, rows) = (done.version, done.rows);
        tracing::info!(table = EFFECTS, version, rows, run_id, "published");
        Ok(Some(version))
    }

    /// Losing a race to a run that published the same is no failure.
    async fn conflict<T>(
        &self,
        done: Result<T, EngineError>,
        results: &[Results],
        until: Date,
    ) -> Result<Option<T>> {
        let error = match done {
            Ok(done) => return Ok(Some(done)),
            Err(error @ EngineError::Conflict(_)) => error,
            Err(error) => return Err(error.into()),
        };
        // The winner may have published its audits and be about to publish its effects.
        for wait in [0, 200, 1000, 3000] {
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            let Plan { work } = self.plan(until).await?;
            let published = |r: &Results| {
                work.iter()
                    .any(|w| w.experiment == r.experiment && matches!(w.state, State::UpToDate(_)))
            };
            if results.iter().all(published) {
                tracing::info!("another run published the same results");
                return Ok(None);
            }
        }
        Err(error.into())
    }
}
