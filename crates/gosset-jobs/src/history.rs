//! What happened to a table.

use gosset_engine::delta::Commit;

use crate::days::parts_of;
use crate::plan::{is_whole, results_of};
use crate::run::{Place, Runner};
use crate::{JobError, Result};
use gosset_engine::EngineError;

/// The key of the version that a restore went back to.
pub(crate) const RESTORED: &str = "restored";
/// The key of the number of units that were forgotten.
pub(crate) const ERASED: &str = "erased";

/// A version of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The version.
    pub version: u64,
    /// When, in milliseconds since 1970, by the writer's clock.
    pub timestamp: Option<i64>,
    /// The run that made it.
    pub run_id: Option<String>,
    /// What was done: published, restored, erased, compacted.
    pub what: String,
    /// The results that it published, of a table of results.
    pub places: Vec<Place>,
    /// The parts that it published, of a table of unit-days.
    pub parts: Vec<String>,
}

impl Runner {
    /// The versions of a table, the newest first: those of this job and those of no job.
    ///
    /// # Errors
    /// [`EngineError::MissingInput`] if there is no such table; if the store fails.
    pub async fn history(&self, table: &str) -> Result<Vec<Change>> {
        let Some(handle) = self.store().existing(table).await? else {
            let missing = format!("the store has no table '{table}' yet");
            return Err(JobError::Engine(EngineError::MissingInput(missing)));
        };
        let mut changes = Vec::new();
        for commit in handle.commits().await? {
            changes.extend(self.change(&commit)?);
        }
        Ok(changes)
    }

    /// What a commit did; none where it is of another job.
    fn change(&self, commit: &Commit) -> Result<Option<Change>> {
        let job = &self.job().name;
        let (all, parts) = (results_of(commit)?, parts_of(commit)?);
        let is_of_jobs = !all.is_empty() || !parts.is_empty();
        let places: Vec<Place> =
            all.into_iter().filter(|r| r.job == *job).map(|r| r.place()).collect();
        let parts: Vec<String> =
            parts.into_iter().filter(|(of, _)| of == job).map(|(_, part)| part).collect();
        if is_of_jobs && places.is_empty() && parts.is_empty() && !is_whole(commit, job) {
            return Ok(None);
        }
        let kept = |key: &str| commit.metadata.get(key);
        let what = match (kept(RESTORED), kept(ERASED), commit.operation.as_deref()) {
            (Some(version), ..) => format!("restored version {version}"),
            (_, Some(units), _) => format!("erased {units} units"),
            (.., Some("WRITE")) => "published".into(),
            (.., Some("OPTIMIZE")) => "compacted".into(),
            (.., other) => other.unwrap_or("unknown").to_lowercase(),
        };
        let Commit { version, timestamp, run_id, .. } = commit.clone();
        Ok(Some(Change { version, timestamp, run_id, what, places, parts }))
    }
}
