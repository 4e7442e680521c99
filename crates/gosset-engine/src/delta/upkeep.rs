//! Keeping a table small: files that are needed no more, files that are small; and going back to an earlier version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, Add, LogicalFileView};
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use deltalake::{FilterOp, FilterValue};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::table::{DeltaTableHandle, properties};
use super::{EngineError, Metadata, Result};

/// Files below this size are small.
const SMALL: i64 = 32 << 20;
/// Files that are looked for at once.
const AT_ONCE: usize = 16;

/// Which files are not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unneeded {
    /// Those that a version replaced.
    Replaced,
    /// Those, and files that are of no version: of writers that died.
    OfNoVersion,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were merged.
    pub before: u64,
    /// Files that they became.
    pub after: u64,
}

/// The files that make a partition what it was.
#[derive(Debug)]
pub struct Restoration {
    actions: Vec<Action>,
    version: u64,
}

impl Restoration {
    /// Whether the partition is what it was.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

impl DeltaTableHandle {
    /// Deletes files that the latest version does not need and that no version younger than `retain` needed, or only
    /// tells them.
    ///
    /// A writer's files are of no version until it commits: with [`Unneeded::OfNoVersion`], `retain` must be longer than
    /// writers run.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn vacuum(
        &mut self,
        unneeded: Unneeded,
        retain: Duration,
        dry_run: bool,
    ) -> Result<Vec<String>> {
        // What was added meanwhile would be taken for a file of no version.
        self.refresh().await?;
        let retain = chrono::Duration::from_std(retain)
            .map_err(|_| EngineError::Option(format!("cannot keep files for {retain:?}")))?;
        let mode = match unneeded {
            Unneeded::Replaced => VacuumMode::Lite,
            Unneeded::OfNoVersion => VacuumMode::Full,
        };
        let vacuum = |dry_run| {
            self.table
                .clone()
                .vacuum()
                .with_mode(mode.clone())
                .with_retention_period(retain)
                // The caller knows how long its writers run.
                .with_enforce_retention_duration(false)
                .with_dry_run(dry_run)
                .parallel_scan(false)
        };
        let (_, found) = vacuum(true).await.map_err(|error| self.told(error.into()))?;
        let mut files: BTreeSet<String> = found.files_deleted.into_iter().collect();
        if !files.is_empty() {
            // The log remembers files that an earlier vacuum deleted.
            let store = self.table.log_store().object_store(None);
            let there = store.list(None).map_ok(|file| file.location.to_string());
            let there: BTreeSet<String> =
                there.try_collect().await.map_err(|error| self.told(error.into()))?;
            files.retain(|file| there.contains(file));
        }
        if !files.is_empty() && !dry_run {
            let (table, _) = vacuum(false).await.map_err(|error| self.told(error.into()))?;
            self.table = table;
        }
        Ok(files.into_iter().collect())
    }

    /// Merges the small files of the partitions whose column `of.0` is `of.1`, if one of them has more than `most`. The
    /// rows stay the same.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] if one of the files was replaced meanwhile; if the store fails.
    pub async fn compact(
        &mut self,
        of: (&str, &str),
        most: usize,
        run_id: &str,
    ) -> Result<Option<Compacted>> {
        let mut small: BTreeMap<Vec<(String, Option<String>)>, usize> = BTreeMap::new();
        for file in self.files(of)?.iter().filter(|file| file.size() < SMALL) {
            let mut values: Vec<_> = file.partition_values_map().into_iter().collect();
            values.sort();
            *small.entry(values).or_default() += 1;
        }
        if small.values().all(|files| *files <= most) {
            return Ok(None);
        }
        let filters = [(of.0, FilterOp::Eq, FilterValue::Scalar(of.1))];
        let optimize = self
            .table
            .clone()
            .optimize()
            .with_filters(&filters)
            .with_session_state(Arc::new(self.session()))
            .with_max_concurrent_tasks(1)
            .with_commit_properties(properties(&Metadata::new(), run_id));
        let (table, done) = optimize.await.map_err(|error| self.told(error.into()))?;
        self.table = table;
        Ok(Some(Compacted { before: done.num_files_removed, after: done.num_files_added }))
    }

    /// What makes the partitions whose column `of.0` is `of.1` what they were in an earlier version of this table.
    ///
    /// # Errors
    /// [`EngineError::MissingInput`] if files of the earlier version were deleted since.
    pub async fn restoration(&self, earlier: &Self, of: (&str, &str)) -> Result<Restoration> {
        let (now, then) = (self.files(of)?, earlier.files(of)?);
        let names = |files: &[LogicalFileView]| -> BTreeSet<String> {
            files.iter().map(|file| file.path().into_owned()).collect()
        };
        let (names_now, names_then) = (names(&now), names(&then));
        let back: Vec<_> = then.iter().filter(|file| !names_now.contains(&*file.path())).collect();
        let store = self.table.log_store().object_store(None);
        let there = futures::stream::iter(&back)
            .map(|file| {
                let (store, path) = (Arc::clone(&store), file.object_store_path());
                async move {
                    match store.head(&path).await {
                        Ok(_) => Ok(()),
                        Err(object_store::Error::NotFound { .. }) => {
                            Err(self.told(EngineError::MissingInput(format!(
                                "the files of version {} were deleted by a vacuum: {path} is not there",
                                earlier.version()
                            ))))
                        }
                        Err(error) => Err(self.told(error.into())),
                    }
                }
            })
            .buffer_unordered(AT_ONCE);
        there.try_collect::<Vec<()>>().await?;
        let gone = now.iter().filter(|file| !names_then.contains(&*file.path()));
        let gone = gone.map(|file| Action::Remove(file.remove_action(true)));
        let actions = back.into_iter().map(|file| Action::Add(added(file))).chain(gone).collect();
        Ok(Restoration { actions, version: earlier.version() })
    }

    /// Makes partitions what they were, in one commit that keeps `metadata`.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] if they were replaced meanwhile; if the store fails.
    pub async fn restore(
        &mut self,
        restoration: &Restoration,
        metadata: &Metadata,
        run_id: &str,
    ) -> Result<u64> {
        let commit = |handle: &Self| {
            let mut table = handle.table.clone();
            let commit = CommitBuilder::from(properties(metadata, run_id))
                .with_actions(restoration.actions.clone());
            let version = restoration.version;
            Ok(async move {
                let operation = DeltaOperation::Restore { version: Some(version), datetime: None };
                let snapshot = table.snapshot()?.snapshot().clone();
                let done = commit.build(Some(&snapshot), table.log_store(), operation).await?;
                table.update_state().await?;
                Ok((table, done.version()))
            })
        };
        self.committed(run_id, commit).await
    }

    /// The files of the partitions in which a column has a value.
    fn files(&self, of: (&str, &str)) -> Result<Vec<LogicalFileView>> {
        let is_of = |file: &LogicalFileView| {
            file.partition_values_map().get(of.0).and_then(Option::as_deref) == Some(of.1)
        };
        Ok(self.table.snapshot()?.log_data().into_iter().filter(is_of).collect())
    }
}

/// The entry that adds a file again.
fn added(file: &LogicalFileView) -> Add {
    Add {
        path: file.path().into_owned(),
        partition_values: file.partition_values_map(),
        size: file.size(),
        modification_time: file.modification_time(),
        data_change: true,
        stats: file.stats(),
        tags: None,
        deletion_vector: file.deletion_vector_descriptor(),
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}
