//! Desired − published = work.

use std::collections::BTreeMap;
use std::fmt;

use gosset_engine::delta::{Commit, DeltaTableHandle, Metadata};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, Fingerprints, Input};
use crate::job::Experiment;
use crate::run::Runner;
use crate::tables::{AUDITS, EFFECTS};
use crate::{JobError, Result};

/// The key of the results of a commit in its metadata.
const RESULTS: &str = "results";

/// The results of one experiment, as they are kept with the commit that published them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// The job.
    pub job: String,
    /// The experiment.
    pub experiment: String,
    /// The day they are of.
    pub analysis_date: Option<String>,
    /// What they are made of.
    pub descriptor: Descriptor,
    /// How many rows they have.
    pub rows: u64,
    /// The audits that kept the effects from being published.
    pub blocked: Vec<String>,
}

/// Results with the commit that published them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedResults {
    /// The results.
    pub results: Results,
    /// The version of `effects` since which they are visible.
    pub version: u64,
    /// When, in milliseconds since 1970, by the writer's clock.
    pub timestamp: Option<i64>,
    /// The run that published them.
    pub run_id: Option<String>,
}

/// What is to be done for an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has never been published.
    Missing,
    /// What is published is of another configuration or other inputs.
    Stale(Vec<String>),
    /// What is published is what would be computed.
    UpToDate(Box<PublishedResults>),
    /// It ends after the day up to which results are asked for.
    NotDue(Date),
    /// What would be computed cannot be told.
    Failed(JobError),
}

/// One experiment of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The experiment.
    pub experiment: String,
    /// The day that its results are of.
    pub analysis_date: Option<Date>,
    /// What is to be done.
    pub state: State,
    /// The files that are read.
    pub inputs: BTreeMap<String, Input>,
    /// What the results would be made of.
    pub(crate) desired: Descriptor,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The experiments in the order of their names.
    pub work: Vec<Work>,
}

impl Work {
    /// Whether there is something to compute.
    pub fn is_due(&self) -> bool {
        matches!(self.state, State::Missing | State::Stale(_))
    }
}

impl Plan {
    /// The experiments that are to be computed.
    pub fn due(&self) -> impl Iterator<Item = &Work> {
        self.work.iter().filter(|work| work.is_due())
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.experiment)?;
        if let Some(date) = self.analysis_date {
            write!(f, " {date}")?;
        }
        match &self.state {
            State::Missing => write!(f, ": compute, new")?,
            State::Stale(reasons) => write!(f, ": compute, {}", reasons.join(", "))?,
            State::UpToDate(published) if published.results.blocked.is_empty() => {
                write!(f, ": published, version {} of {EFFECTS}", published.version)?;
            }
            State::UpToDate(published) => {
                write!(f, ": blocked by {}", published.results.blocked.join("; "))?;
            }
            State::NotDue(end) => write!(f, ": not due before the end of {end}")?,
            State::Failed(error) => write!(f, ": failed: {error}")?,
        }
        if self.is_due() {
            for (name, input) in &self.inputs {
                let files = if input.files == 1 { "file" } else { "files" };
                write!(f, "\n  reads {name}: {} {files}, {} bytes", input.files, input.bytes)?;
            }
        }
        Ok(())
    }
}

impl Runner {
    /// What a run up to a day would do.
    ///
    /// # Errors
    /// If the store cannot be read. What is wrong with one experiment is told in its [`State`].
    pub async fn plan(&self, until: Date) -> Result<Plan> {
        let published =
            Both { effects: self.newest(EFFECTS).await?, audits: self.newest(AUDITS).await? };
        let mut fingerprints = Fingerprints::default();
        let mut work = Vec::new();
        for experiment in &self.job().experiments {
            work.push(self.planned(experiment, until, &published, &mut fingerprints).await);
        }
        Ok(Plan { work })
    }

    async fn planned(
        &self,
        experiment: &Experiment,
        until: Date,
        published: &Both,
        fingerprints: &mut Fingerprints,
    ) -> Work {
        let analysis_date = experiment.analysis_date();
        let mut work = Work {
            experiment: experiment.name.clone(),
            analysis_date,
            state: State::Missing,
            inputs: BTreeMap::new(),
            desired: Descriptor::default(),
        };
        if let Some(end) = analysis_date.filter(|&end| end > until) {
            work.state = State::NotDue(end);
            return work;
        }
        match Descriptor::desired(self.job(), experiment, self.engine(), fingerprints).await {
            Err(error) => work.state = State::Failed(error),
            Ok(desired) => {
                let key = key(&experiment.name, analysis_date);
                if let Some(found) = published.effects.get(&key) {
                    let mut reasons = found.results.descriptor.differences(&desired);
                    let audited = published.audits.get(&key).map(|a| &a.results.descriptor);
                    if reasons.is_empty() && audited != Some(&desired) {
                        reasons.push("its audits are of another run".into());
                    }
                    work.state = if reasons.is_empty() {
                        State::UpToDate(Box::new(found.clone()))
                    } else {
                        State::Stale(reasons)
                    };
                }
                work.inputs = desired.inputs.clone();
                work.desired = desired;
            }
        }
        work
    }

    /// The newest results of the job's experiments in a table.
    async fn newest(&self, table: &str) -> Result<Published> {
        let Some(table) = self.store().existing(table).await? else { return Ok(Published::new()) };
        let wanted: Vec<Key> =
            self.job().experiments.iter().map(|e| key(&e.name, e.analysis_date())).collect();
        self.published(&table, |found| wanted.iter().all(|k| found.contains_key(k))).await
    }

    /// All that is published of the job: the newest results of every experiment and day.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn status(&self) -> Result<Vec<PublishedResults>> {
        match self.store().existing(EFFECTS).await? {
            Some(effects) => Ok(self.published(&effects, |_| false).await?.into_values().collect()),
            None => Ok(Vec::new()),
        }
    }

    /// Whether these results are the newest in a table.
    pub(crate) async fn holds(
        &self,
        table: &DeltaTableHandle,
        results: &[Results],
    ) -> Result<bool> {
        let key = |r: &Results| (r.experiment.clone(), r.analysis_date.clone());
        let all = |found: &Published| results.iter().all(|r| found.contains_key(&key(r)));
        let newest = self.published(table, all).await?;
        Ok(results.iter().all(|r| newest.get(&key(r)).is_some_and(|found| found.results == *r)))
    }

    /// The newest results of experiments of the job, from the commits of a table, until there are enough.
    async fn published(
        &self,
        table: &DeltaTableHandle,
        enough: impl Fn(&Published) -> bool,
    ) -> Result<Published> {
        let mut found = Published::new();
        let mut unreadable = None;
        table
            .latest_commit(|commit| {
                match results_of(commit) {
                    Ok(all) => {
                        for results in all.into_iter().filter(|r| r.job == self.job().name) {
                            let key = (results.experiment.clone(), results.analysis_date.clone());
                            found.entry(key).or_insert_with(|| PublishedResults {
                                results,
                                version: commit.version,
                                timestamp: commit.timestamp,
                                run_id: commit.run_id.clone(),
                            });
                        }
                    }
                    Err(error) => unreadable = Some(error),
                }
                unreadable.is_some() || enough(&found)
            })
            .await?;
        match unreadable {
            Some(error) => Err(error.about(&table.location())),
            None => Ok(found),
        }
    }
}

/// An experiment and its day.
type Key = (String, Option<String>);
type Published = BTreeMap<Key, PublishedResults>;

/// What is published in each of the tables. They are two commits, and between them a run may die or lose a race.
struct Both {
    effects: Published,
    audits: Published,
}

fn key(experiment: &str, date: Option<Date>) -> Key {
    (experiment.to_owned(), date.map(|date| date.to_string()))
}

/// The results that a commit of ours published.
fn results_of(commit: &Commit) -> Result<Vec<Results>> {
    match commit.metadata.get(RESULTS) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str(text).map_err(|error| {
            JobError::Data(format!(
                "the metadata of version {} cannot be read: {error}",
                commit.version
            ))
        }),
    }
}

/// The metadata of a commit that publishes results.
pub(crate) fn metadata(results: &[Results]) -> Result<Metadata> {
    let text = serde_json::to_string(results)
        .map_err(|e| JobError::Engine(gosset_engine::EngineError::Internal(e.to_string())))?;
    Ok([(RESULTS, text), ("gosset_version", env!("CARGO_PKG_VERSION").to_owned())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}
