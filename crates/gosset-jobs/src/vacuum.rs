//! Cleaning up the tables of a job's store: files that no version needs, and files that are too small.

use std::time::Duration;

use gosset_engine::EngineError;
use gosset_engine::delta::{DeltaTableHandle, Unneeded};
use jiff::SignedDuration;

use crate::days::UNIT_DAYS;
use crate::run::{Runner, SCRATCH};
use crate::tables::{AUDITS, EFFECTS, SUMMARIES};
use crate::{JobError, Result};

/// How long a run may go on whose job has no time-out.
const LONGEST_RUN: SignedDuration = SignedDuration::from_hours(24);
/// Small files of a partition that are not merged yet.
const SMALL_FILES: usize = 8;
/// The column of the job in every table.
pub(crate) const JOB: &str = "job";

/// What a vacuum does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vacuum {
    /// How long a file stays after it was replaced, or after it was written where it is of no version.
    pub retain: Duration,
    /// Whether files may be younger than a run that still goes on.
    pub force: bool,
    /// Whether files are told and stay.
    pub dry_run: bool,
}

impl Runner {
    /// The tables of ours in the store, in the order in which a run publishes: what others put beside them is not touched.
    pub(crate) async fn names(&self) -> Result<Vec<String>> {
        let names = self.store().names().await?;
        let unit_days =
            |name: &&String| name.strip_prefix(UNIT_DAYS).is_some_and(|rest| rest.starts_with('_'));
        let mut ours: Vec<String> = names.iter().filter(unit_days).cloned().collect();
        let results = [SUMMARIES, AUDITS, EFFECTS].into_iter().map(ToOwned::to_owned);
        ours.extend(results.filter(|name| names.contains(name)));
        Ok(ours)
    }

    /// A table that was listed.
    pub(crate) async fn listed(&self, name: &str) -> Result<DeltaTableHandle> {
        let table = self.store().existing(name).await?;
        table.ok_or_else(|| JobError::Changed(format!("the table '{name}' is gone")))
    }

    /// How long a run of the job can go on: files that are of no version yet may be younger.
    pub(crate) fn longest_run(&self) -> SignedDuration {
        self.job().timeout.unwrap_or(LONGEST_RUN)
    }

    /// Deletes the files that no version needs, and those that runs on a cluster left, or only tells them, by table.
    ///
    /// # Errors
    /// [`EngineError::Option`] if files may be younger than a run that still goes on; if the store fails.
    pub async fn vacuum(&self, vacuum: Vacuum) -> Result<Vec<(String, Vec<String>)>> {
        let longest = self.longest_run();
        if vacuum.retain < longest.unsigned_abs() && !vacuum.force {
            return Err(JobError::Engine(EngineError::Option(format!(
                "files of the last {longest:#} may be of a run that goes on: retain more days, or say --force when none does"
            ))));
        }
        let mut deleted = Vec::new();
        for name in self.names().await? {
            let mut table = self.listed(&name).await?;
            let files = table.vacuum(Unneeded::OfNoVersion, vacuum.retain, vacuum.dry_run).await?;
            tracing::info!(table = name, files = files.len(), dry_run = vacuum.dry_run, "vacuumed");
            deleted.push((name, files));
        }
        let left = self.engine().clean_scratch(vacuum.retain, vacuum.dry_run).await?;
        if !left.is_empty() {
            tracing::info!(files = left.len(), dry_run = vacuum.dry_run, "scratch cleaned");
            deleted.push((SCRATCH.to_owned(), left));
        }
        Ok(deleted)
    }

    /// Merges the small files of partitions that have many. What a run published stays as it is, so that a failure is none
    /// of the run.
    pub(crate) async fn compact(&self, run_id: &str) {
        let compacted = async {
            for name in self.names().await? {
                let mut table = self.listed(&name).await?;
                let done = table.compact((JOB, &self.job().name), SMALL_FILES, run_id).await?;
                if let Some(done) = done {
                    let (before, after) = (done.before, done.after);
                    tracing::info!(table = name, before, after, "compacted");
                }
            }
            Ok::<_, JobError>(())
        };
        if let Err(error) = compacted.await {
            tracing::warn!(%error, "small files are not merged");
        }
    }
}
