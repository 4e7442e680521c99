//! Running a job: reading what is new, computing what is missing, and publishing it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use futures::StreamExt;
use gosset_engine::delta::DeltaStore;
use gosset_engine::{Engine, EngineOptions, location, shown};
use jiff::SignedDuration;
use jiff::civil::Date;
use tokio::sync::mpsc::Sender;
use tracing::{Instrument, field};

use crate::analyse::Divided;
use crate::days::Days;
use crate::job::{Experiment, Job};
use crate::looked::Looked;
use crate::plan::{Asked, Plan, Published, State, Work, key};
use crate::publish::Computed;
use crate::stored::Stored;
use crate::tables::SUMMARIES;
use crate::{JobError, Result, internal};

/// Experiments at once on a cluster unless it is said how many: beyond these, the runner's own work is what they wait for.
const AT_ONCE_ON_A_CLUSTER: usize = 8;

/// How long results are held before they are published: what a run that dies loses.
const HELD_AT_MOST: Duration = Duration::from_secs(10);

/// The folder of a store where a cluster keeps what the queries of a run share.
pub(crate) const SCRATCH: &str = "_scratch";

/// Bytes of results that are held before they are published.
const BYTES_AT_ONCE: usize = 64 << 20;

/// What dates are computed from.
pub(crate) struct Basis<'a> {
    pub(crate) looked: &'a Looked<'a>,
    /// What is published of totals.
    pub(crate) totals: &'a Published,
    /// Whether nothing of it is used.
    pub(crate) afresh: bool,
    pub(crate) run_id: &'a str,
}

/// What became of a date.
enum Made {
    Computed(Box<Computed>),
    Other(Place, State),
}

/// Runs one job.
pub struct Runner {
    pub(crate) job: Job,
    pub(crate) engine: Engine,
    pub(crate) store: DeltaStore,
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
        /// Which date of which experiment.
        place: Place,
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
    /// It draws the arms of a calibration.
    Drawing {
        /// For which time, from 1 on.
        draw: u32,
        /// Of how many.
        of: u32,
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
    /// Whether the experiment has results of other dates.
    pub daily: bool,
}

impl Place {
    pub(crate) fn of(work: &Work) -> Self {
        Self { experiment: work.experiment.clone(), date: work.analysis_date, daily: work.daily }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date.filter(|_| self.daily) {
            Some(date) => write!(f, "{} {date}", self.experiment),
            None => f.write_str(&self.experiment),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The run.
    pub run_id: String,
    /// Parts of sources that were read.
    pub read: usize,
    /// Bytes of their files.
    pub read_bytes: u64,
    /// Rows of those of them that could be read.
    pub read_rows: u64,
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
    /// Metrics that could not be measured, and why. The others of the experiment are published.
    pub failed_metrics: Vec<(Place, String, JobError)>,
}

impl Outcome {
    /// Adds what is known of a date that is not computed.
    fn add(&mut self, place: Place, state: State) {
        if let State::UpToDate(published) = &state {
            for (metric, why) in &published.results.failed {
                let error = JobError::Data(why.clone());
                self.failed_metrics.push((place.clone(), metric.clone(), error));
            }
        }
        match state {
            State::UpToDate(published) if published.results.blocked.is_empty() => {
                self.up_to_date.push(place);
            }
            State::UpToDate(published) => self.blocked.push((place, published.results.blocked)),
            State::NotDue(day) => self.not_due.push((place.experiment, day)),
            State::Failed(error) => self.failed.push((place, error)),
            State::Missing | State::Stale(_) => {}
        }
    }

    /// In the order of places, whatever the order in which they were computed.
    fn sort(&mut self) {
        self.published.sort();
        self.up_to_date.sort();
        self.not_due.sort();
        self.blocked.sort();
        self.warnings.sort();
        self.failed_metrics.sort_by(|(a, m, _), (b, n, _)| (a, m).cmp(&(b, n)));
        self.failed.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
}

impl Runner {
    /// Prepares to run a job with the given limits.
    ///
    /// # Errors
    /// If the store's location or the limits are wrong.
    pub fn new(job: Job, options: EngineOptions) -> Result<Self> {
        // Where a unit is known by the position of its row, rows are read in their order.
        let options = if job.needs_order() { options.with_target_partitions(1) } else { options };
        // Of a store that the executors of a cluster reach.
        let engine = Engine::new(options)?
            .with_scratch(&format!("{}/{SCRATCH}", job.store.trim_end_matches('/')))?;
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

    /// How many experiments, or parts of a source, are worked on at once: as it was asked, or one; on a cluster as many as
    /// its slots can be busy with.
    fn at_once(&self, asked: &Asked) -> usize {
        let slots = || self.engine.context().state().config().target_partitions();
        match asked.jobs {
            Some(jobs) => jobs.max(1),
            None if self.engine.is_cluster() => slots().clamp(1, AT_ONCE_ON_A_CLUSTER),
            None => 1,
        }
    }

    /// The experiments that are due, with the metrics that some of their dates need, and from which date to which.
    fn affected_days(&self, plan: &Plan) -> Result<Vec<(Experiment, Days)>> {
        let due: Vec<&Work> = plan.due().collect();
        let mut affected = Vec::new();
        for works in due.chunk_by(|a, b| a.experiment == b.experiment) {
            let experiment = self.experiment(&works[0].experiment)?;
            let mut dates = works.iter().filter_map(|work| work.analysis_date.or(experiment.end));
            let Some(from) = dates.next() else { continue };
            let to = dates.next_back().unwrap_or(from);
            let is_kept = |name: &String| works.iter().all(|work| work.kept.contains(name));
            let of_some = experiment.with(|metric| !is_kept(&metric.name));
            affected.push((of_some, Days { from, to }));
        }
        Ok(affected)
    }

    async fn divided_for(&self, works: &[Work], known: &Basis<'_>) -> Result<Divided> {
        let last = works.last().ok_or_else(|| internal("an experiment has no date"))?;
        let experiment = &known.looked.measurable(self.experiment(&last.experiment)?);
        let rows = known.looked.assignments().filter(|_| experiment.is_of_days());
        self.divided(experiment, last.analysis_date, rows).await
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
        let run_id = uuid::Uuid::new_v4().to_string();
        let span = tracing::info_span!("run", run_id);
        self.run_as(run_id, asked, tell).instrument(span).await
    }

    async fn run_as(
        &self,
        run_id: String,
        asked: &Asked,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Outcome> {
        // The snapshots that the commits start from are older than the plan: whoever publishes in between wins.
        let mut tables = self.tables_if_any().await?;
        let mut looked = self.look(asked.until).await;
        let parts = looked.due(self.job(), asked.until)?;
        let mut outcome = Outcome {
            run_id: run_id.clone(),
            read: parts.len(),
            read_bytes: parts.iter().map(|part| part.bytes).sum(),
            ..Outcome::default()
        };
        if !parts.is_empty() {
            tell(Event::Reading { parts: parts.len() });
            let span = tracing::info_span!("read", run_id, parts = parts.len());
            looked.read(&parts, self.at_once(asked), &run_id).instrument(span).await?;
            outcome.read_rows = looked.rows_of(&parts);
        }
        let plan = self.planned(&looked, Vec::new(), asked).await?;
        tell(Event::Planned { due: plan.due().count(), all: plan.work.len() });
        let totals = self.newest(SUMMARIES, asked.until).await?;
        let due = self.affected_days(&plan)?;
        if !due.is_empty() {
            let continued = |experiment: &Experiment, first: Date| {
                let yesterday = first.yesterday().ok();
                !asked.afresh && totals.contains_key(&key(&experiment.name, yesterday))
            };
            looked.hold(self, &due, continued).await?;
        }
        let known =
            Basis { looked: &looked, totals: &totals, afresh: asked.afresh, run_id: &run_id };
        let (send, mut made) = tokio::sync::mpsc::channel(1);
        let works = plan.work.chunk_by(|a, b| a.experiment == b.experiment);
        let jobs = self.at_once(asked);
        let computing = async {
            let works = futures::stream::iter(works);
            works.for_each_concurrent(jobs, |works| self.dates(works, &known, &send, tell)).await;
            drop(send);
            Ok(())
        };
        let publishing = async {
            let (mut held, mut since) = (Vec::new(), Instant::now());
            while let Some(made) = made.recv().await {
                match made {
                    Made::Computed(results) => held.push(*results),
                    Made::Other(place, state) => outcome.add(place, state),
                }
                let bytes: usize = held.iter().map(Computed::bytes).sum();
                if bytes > BYTES_AT_ONCE || (!held.is_empty() && since.elapsed() > HELD_AT_MOST) {
                    let held = std::mem::take(&mut held);
                    self.publish_results(&mut tables, held, asked, &run_id, &mut outcome, tell)
                        .await?;
                    since = Instant::now();
                }
            }
            if !held.is_empty() {
                self.publish_results(&mut tables, held, asked, &run_id, &mut outcome, tell).await?;
            }
            Ok::<_, JobError>(())
        };
        tokio::try_join!(computing, publishing)?;
        if outcome.read > 0 || outcome.version.is_some() {
            self.compact(&run_id).await;
        }
        outcome.sort();
        Ok(outcome)
    }

    /// Works through the dates of an experiment, each with the totals of the one before.
    async fn dates(
        &self,
        works: &[Work],
        known: &Basis<'_>,
        to: &Sender<Made>,
        tell: &(dyn Fn(Event) + Sync),
    ) {
        let mut before: Option<(Date, Stored)> = None;
        let mut waves: Option<Divided> = None;
        let timeout = works.first().and_then(|w| self.experiment(&w.experiment).ok()?.timeout);
        let began = Instant::now();
        for work in works {
            let place = Place::of(work);
            let mut failed = matches!(work.state, State::Failed(_));
            let made = if work.is_due() {
                let made = async {
                    let waves = match &mut waves {
                        Some(waves) => waves,
                        // Of the last date, whose states are the largest.
                        none => none.insert(self.divided_for(works, known).await?),
                    };
                    self.compute(work, known, waves, before.take(), tell).await
                };
                let date = work.analysis_date.map(field::display);
                let (run_id, experiment) = (known.run_id, &work.experiment);
                // The name that the status of a span has for collectors.
                let span = tracing::info_span!(
                    "date",
                    run_id,
                    experiment,
                    date,
                    "otel.status_description" = field::Empty
                );
                let made = within(timeout, began, timed(made)).instrument(span.clone()).await;
                if let Err(error) = &made {
                    span.record("otel.status_description", field::display(error));
                }
                tell(Event::Computed { experiment: work.experiment.clone() });
                match made {
                    Ok((results, stored)) => {
                        before = work.analysis_date.map(|date| (date, stored));
                        Made::Computed(Box::new(results))
                    }
                    Err(error) => {
                        failed = true;
                        Made::Other(place, State::Failed(error))
                    }
                }
            } else {
                Made::Other(place, work.state.clone())
            };
            // Who listens no more has failed, and tells why. Later dates wait for one that failed.
            if to.send(made).await.is_err() || failed {
                return;
            }
        }
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
}

/// Computes a date, and logs how long it took.
async fn timed<T>(made: impl Future<Output = Result<T>>) -> Result<T> {
    let began = Instant::now();
    let made = made.await;
    let seconds = began.elapsed().as_secs_f64();
    match &made {
        Ok(_) => tracing::info!(seconds, "computed"),
        Err(error) => tracing::info!(seconds, %error, "not computed"),
    }
    made
}

/// Work that must be done within some time of its beginning.
async fn within<T>(
    timeout: Option<SignedDuration>,
    began: Instant,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(timeout) = timeout else { return work.await };
    let left = timeout.unsigned_abs().saturating_sub(began.elapsed());
    tokio::time::timeout(left, work).await.unwrap_or_else(|_| {
        let text = format!("its dates took longer than the time-out of {timeout:#}");
        Err(JobError::TimedOut(text))
    })
}
