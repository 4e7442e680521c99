//! Going back: the tables of a job as they were when a version of its effects was published.

use std::collections::BTreeSet;

use gosset_engine::EngineError;
use gosset_engine::delta::{Commit, DeltaTableHandle, Metadata, Restoration};

use crate::days::{UNIT_DAYS, metadata_of_parts};
use crate::history::RESTORED;
use crate::plan::{WHOLE, metadata};
use crate::run::Runner;
use crate::tables::EFFECTS;
use crate::vacuum::JOB;
use crate::{JobError, Result};

/// What to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A version of `effects`.
    Version(u64),
    /// The last version of `effects` of a time, in milliseconds since 1970.
    Time(i64),
}

/// A table that is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The table.
    pub table: String,
    /// The version that it is like.
    pub to: u64,
    /// The version that made it so.
    pub version: u64,
}

/// What is about to be restored.
struct Step {
    name: String,
    table: DeltaTableHandle,
    to: u64,
    restoration: Restoration,
    metadata: Metadata,
}

impl Runner {
    /// Makes all tables of the job what they were: `effects` as of a version, the others as of the last commit that belongs
    /// to it or to one before. `effects` comes last, and nothing is changed unless all files are still there.
    ///
    /// Each commit says that its results, or its parts, are all there are of the job, so that plans know nothing of what was
    /// published in between.
    ///
    /// # Errors
    /// [`EngineError::MissingInput`] if there is no such version, or its files were deleted by a vacuum;
    /// [`JobError::Changed`] if a run publishes meanwhile; if the store fails.
    pub async fn restore(&self, to: Moment) -> Result<Vec<Restored>> {
        let missing = |text: String| JobError::Engine(EngineError::MissingInput(text));
        let Some(effects) = self.store().existing(EFFECTS).await? else {
            return Err(missing(format!("the store has no table '{EFFECTS}' yet")));
        };
        let commits = effects.commits().await?;
        let is_it = |commit: &&Commit| match to {
            Moment::Version(version) => commit.version == version,
            Moment::Time(ms) => commit.timestamp.is_some_and(|at| at <= ms),
        };
        let Some(target) = commits.iter().find(is_it) else {
            let newest = effects.version();
            return Err(missing(match to {
                Moment::Version(version) => {
                    format!("{EFFECTS} has no version {version}, the newest is {newest}")
                }
                Moment::Time(_) => format!("{EFFECTS} is younger than that"),
            }));
        };
        let order = Order::new(&commits, target);
        let mut steps = Vec::new();
        for name in self.names().await? {
            let table = self.listed(&name).await?;
            let to = match name == EFFECTS {
                true => target.version,
                false => order.last(&table).await?,
            };
            if to < table.version() {
                steps.extend(self.step(name, table, to).await?);
            }
        }
        let run_id = uuid::Uuid::new_v4().to_string();
        let mut restored = Vec::new();
        for Step { name, mut table, to, restoration, metadata } in steps {
            let version = table.restore(&restoration, &metadata, &run_id).await?;
            tracing::info!(table = name, to, version, run_id, "restored");
            restored.push(Restored { table: name, to, version });
        }
        Ok(restored)
    }

    /// What makes a table what it was; nothing where all that was published since is of other jobs.
    async fn step(&self, name: String, table: DeltaTableHandle, to: u64) -> Result<Option<Step>> {
        let job = &self.job().name;
        let Some(then) = self.store().existing_at(&name, to).await? else { return Ok(None) };
        let restoration = table.restoration(&then, (JOB, job)).await?;
        let (mut metadata, now) = match name.starts_with(UNIT_DAYS) {
            true => (metadata_of_parts(&then, job).await?, metadata_of_parts(&table, job).await?),
            false => (self.all_of(&then).await?, self.all_of(&table).await?),
        };
        if restoration.is_empty() && metadata == now {
            return Ok(None);
        }
        metadata.insert(WHOLE.into(), job.clone());
        metadata.insert(RESTORED.into(), to.to_string());
        Ok(Some(Step { name, table, to, restoration, metadata }))
    }

    /// The metadata of all results of the job in a table.
    async fn all_of(&self, table: &DeltaTableHandle) -> Result<Metadata> {
        let all = self.published(table, |_| false).await?;
        metadata(&all.into_values().map(|found| found.results).collect::<Vec<_>>())
    }
}

/// Which commits of other tables come before a version of `effects`: those of runs that published effects up to it. Of runs
/// that did so before and after it, or never, their time tells.
struct Order {
    until: BTreeSet<String>,
    after: BTreeSet<String>,
    time: Option<i64>,
}

impl Order {
    fn new(commits: &[Commit], target: &Commit) -> Self {
        let runs = |after: bool| {
            let these = commits.iter().filter(|c| (c.version > target.version) == after);
            these.filter_map(|commit| commit.run_id.clone()).collect()
        };
        Self { until: runs(false), after: runs(true), time: target.timestamp }
    }

    fn is_before(&self, commit: &Commit) -> bool {
        let of = |runs: &BTreeSet<String>| commit.run_id.as_ref().is_some_and(|r| runs.contains(r));
        match (of(&self.until), of(&self.after)) {
            (true, false) => true,
            (false, true) => false,
            _ => commit.timestamp <= self.time,
        }
    }

    /// The last version of a table that comes before.
    async fn last(&self, table: &DeltaTableHandle) -> Result<u64> {
        let last = table.latest_commit(|commit| self.is_before(commit)).await?;
        Ok(last.map_or(0, |commit| commit.version))
    }
}
