//! One Delta table: what is published in it, and publishing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ident, lit};
use deltalake::delta_datafusion::DeltaSessionContext;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::operations::write::{SchemaMode, WriteBuilder};
use deltalake::protocol::SaveMode;
use deltalake::{DeltaTable, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::{DeltaFiles, Metadata};
use crate::{Engine, EngineError, Result, shown};

/// Our keys in a commit's information, apart from those of the protocol and of other writers.
const KEY_PREFIX: &str = "gosset.";
/// The key that tells our commit from others after a lost answer.
const RUN_ID: &str = "run_id";
/// Commits read ahead while the log is searched backwards.
const COMMITS_AHEAD: usize = 16;
/// How often a write is tried when the store fails, and how long after.
const RETRY_AFTER: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// A Delta table as of one version.
#[derive(Clone)]
pub struct DeltaTableHandle {
    pub(super) table: DeltaTable,
    engine: Engine,
}

impl fmt::Debug for DeltaTableHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaTableHandle")
            .field("location", &self.location())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

/// A commit of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The version that the commit made.
    pub version: u64,
    /// When, in milliseconds since 1970, by the writer's clock.
    pub timestamp: Option<i64>,
    /// What was done, as the Delta protocol calls it: `WRITE`, `OPTIMIZE`, `RESTORE`.
    pub operation: Option<String>,
    /// The run that made it, if it was one of ours.
    pub run_id: Option<String>,
    /// What was kept with it.
    pub metadata: Metadata,
}

/// What a publish did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The version in which the rows are visible.
    pub version: u64,
    /// How many rows they are.
    pub rows: usize,
}

/// The rows whose partition columns have these values; NULL is a value like any other.
pub fn partition(values: &[(&str, ScalarValue)]) -> Expr {
    let each = values.iter().map(|(name, value)| {
        if value.is_null() { ident(*name).is_null() } else { ident(*name).eq(lit(value.clone())) }
    });
    each.reduce(Expr::and).unwrap_or_else(|| lit(true))
}

/// The rows of any of several partitions: one commit may replace them all.
pub fn any_of(partitions: impl IntoIterator<Item = Expr>) -> Expr {
    partitions.into_iter().reduce(Expr::or).unwrap_or_else(|| lit(false))
}

impl DeltaTableHandle {
    pub(super) fn new(table: DeltaTable, engine: Engine) -> Self {
        Self { table, engine }
    }

    /// The version this handle reads, and from which the next write starts.
    pub fn version(&self) -> u64 {
        self.table.version().expect("a handle is made of a loaded table")
    }

    /// The columns, as declared.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(self.table.snapshot()?.snapshot().arrow_schema())
    }

    /// Where the table is, for messages.
    pub fn location(&self) -> String {
        shown(self.table.table_url())
    }

    /// Reads the log again: the handle is then of the latest version.
    pub async fn refresh(&mut self) -> Result<()> {
        self.table.update_state().await.map_err(|error| self.told(error.into()))
    }

    /// The table for queries.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        let context = self.engine.context().state();
        let views = context.config_options().execution.parquet.schema_force_view_types;
        Ok(Arc::new(DeltaFiles::of(&self.table, views)?))
    }

    /// The rows for which `predicate` holds, or all of them.
    pub async fn read(&self, predicate: Option<Expr>) -> Result<Vec<RecordBatch>> {
        let rows = self.engine.context().read_table(self.provider()?)?;
        let rows = match predicate {
            Some(predicate) => rows.filter(predicate)?,
            None => rows,
        };
        Ok(rows.collect().await?)
    }

    /// All commits up to this version, the newest first.
    pub async fn commits(&self) -> Result<Vec<Commit>> {
        let mut commits = Vec::new();
        self.search(0, |commit| {
            commits.push(commit.clone());
            false
        })
        .await?;
        Ok(commits)
    }

    /// The newest commit for which `wanted` holds. Reading stops there.
    pub async fn latest_commit(
        &self,
        wanted: impl FnMut(&Commit) -> bool,
    ) -> Result<Option<Commit>> {
        self.search(0, wanted).await
    }

    async fn search(
        &self,
        from: u64,
        mut wanted: impl FnMut(&Commit) -> bool,
    ) -> Result<Option<Commit>> {
        let log = self.table.log_store();
        let mut entries =
            futures::stream::iter((from..=self.version()).rev())
                .map(|version| {
                    let log = Arc::clone(&log);
                    async move {
                        Ok::<_, DeltaTableError>((version, log.read_commit_entry(version).await?))
                    }
                })
                .buffered(COMMITS_AHEAD);
        while let Some((version, entry)) =
            entries.try_next().await.map_err(|error| self.told(error.into()))?
        {
            // An old entry may have been cleaned away.
            let Some(entry) = entry else { continue };
            let commit = commit(version, &entry).map_err(|error| self.told(error))?;
            if wanted(&commit) {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Replaces the rows for which `predicate` holds by `rows`, in one commit that keeps `metadata`.
    ///
    /// The write starts from this handle's version: a commit of the same partition since then is a
    /// [`Conflict`](EngineError::Conflict), commits of others are not. `run_id` must be new for every run: by it a
    /// commit is known as ours when the answer to it was lost. Afterwards the handle is of the new version.
    pub async fn replace(
        &mut self,
        rows: Vec<RecordBatch>,
        predicate: Expr,
        metadata: &Metadata,
        run_id: &str,
    ) -> Result<Published> {
        let count = rows.iter().map(RecordBatch::num_rows).sum();
        let write = |table: &Self| {
            let write = table.write(rows.clone(), predicate.clone(), metadata, run_id)?;
            Ok(async move {
                let table = write.await?;
                let version = table.version().unwrap_or_default();
                Ok((table, version))
            })
        };
        let version = self.committed(run_id, write).await?;
        Ok(Published { version, rows: count })
    }

    /// Commits, again where the store fails, and tells the version of the commit.
    pub(super) async fn committed<F>(
        &mut self,
        run_id: &str,
        commit: impl Fn(&Self) -> Result<F>,
    ) -> Result<u64>
    where
        F: Future<Output = Result<(DeltaTable, u64), DeltaTableError>>,
    {
        let mut wait = RETRY_AFTER.into_iter();
        loop {
            let error = match commit(self)?.await {
                Ok((table, version)) => {
                    self.table = table;
                    return Ok(version);
                }
                Err(error) => self.told(error.into()),
            };
            if let Some(version) = self.landed(run_id).await? {
                tracing::warn!(table = self.location(), version, %error, "the commit landed although its answer did not");
                return Ok(version);
            }
            // Only a store that failed is asked again, and from the same snapshot: a conflict stays one.
            match (&error, wait.next()) {
                (EngineError::StoreUnavailable(_), Some(wait)) => {
                    tracing::warn!(table = self.location(), %error, "the commit failed, trying again");
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(error),
            }
        }
    }

    fn write(
        &self,
        mut rows: Vec<RecordBatch>,
        predicate: Expr,
        metadata: &Metadata,
        run_id: &str,
    ) -> Result<WriteBuilder> {
        if rows.is_empty() {
            rows.push(RecordBatch::new_empty(self.schema()?));
        }
        let widened = rows[0].schema().fields().len() > self.schema()?.fields().len();
        let write = self
            .table
            .clone()
            .write(rows)
            .with_session_state(Arc::new(self.session()))
            .with_save_mode(SaveMode::Overwrite)
            .with_replace_where(predicate)
            .with_commit_properties(properties(metadata, run_id));
        Ok(if widened { write.with_schema_mode(SchemaMode::Merge) } else { write })
    }

    /// A session as Delta wants it, on the engine's memory, spill directory and stores. One partition, so that a
    /// table's partition is one file.
    pub(super) fn session(&self) -> SessionState {
        let mut state = DeltaSessionContext::with_runtime_env(self.engine.runtime()).state();
        state.config_mut().options_mut().execution.target_partitions = 1;
        state
    }

    /// The version of this run's commit after the version of this handle, if there is one. The handle is left as it is
    /// if there is none: it still is the snapshot from which the write starts.
    async fn landed(&mut self, run_id: &str) -> Result<Option<u64>> {
        let mut latest = self.clone();
        latest.refresh().await?;
        let ours = |commit: &Commit| commit.run_id.as_deref() == Some(run_id);
        let found = latest.search(self.version() + 1, ours).await?;
        Ok(found.map(|commit| {
            *self = latest;
            commit.version
        }))
    }

    /// Whether rows of `schema` may be written to this table.
    pub(super) fn accept(&self, schema: &Schema, partition_columns: &[&str]) -> Result<()> {
        let state = self.table.snapshot()?;
        let actual = state.metadata().partition_columns();
        if actual.iter().map(String::as_str).ne(partition_columns.iter().copied()) {
            return Err(EngineError::BadData(format!(
                "{}: expected partitions by {}, found {}",
                self.location(),
                partition_columns.join(", "),
                actual.join(", ")
            )));
        }
        for field in self.schema()?.fields() {
            let Ok(known) = schema.field_with_name(field.name()) else {
                return Err(EngineError::BadData(format!(
                    "{}: column '{}' is not known to this version of gosset: the table was written by a newer one, \
                     and is not overwritten",
                    self.location(),
                    field.name()
                )));
            };
            if logical(known.data_type()) != logical(field.data_type()) {
                return Err(EngineError::BadData(format!(
                    "{}: expected column '{}' of type {}, found {}",
                    self.location(),
                    field.name(),
                    known.data_type(),
                    field.data_type()
                )));
            }
        }
        Ok(())
    }

    pub(super) fn told(&self, error: EngineError) -> EngineError {
        error.about(&self.location())
    }
}

/// What is kept with a commit of ours.
pub(super) fn properties(metadata: &Metadata, run_id: &str) -> CommitProperties {
    let kept = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .chain([(RUN_ID, run_id)])
        .map(|(key, value)| (format!("{KEY_PREFIX}{key}"), Value::from(value)));
    CommitProperties::default().with_metadata(kept)
}

/// A type as Delta has it: it knows one string and one binary type.
fn logical(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

/// Reads a log entry: one JSON object a line, one of which is the commit's information.
fn commit(version: u64, entry: &[u8]) -> Result<Commit> {
    let mut commit = Commit {
        version,
        timestamp: None,
        operation: None,
        run_id: None,
        metadata: Metadata::new(),
    };
    for action in serde_json::Deserializer::from_slice(entry).into_iter::<Value>() {
        let action = action
            .map_err(|error| EngineError::BadData(format!("log entry {version}: {error}")))?;
        let Some(Value::Object(information)) = action.get("commitInfo") else { continue };
        commit.timestamp = information.get("timestamp").and_then(Value::as_i64);
        commit.operation = information.get("operation").and_then(Value::as_str).map(Into::into);
        for (key, value) in information {
            if let (Some(key), Some(value)) = (key.strip_prefix(KEY_PREFIX), value.as_str()) {
                match key {
                    RUN_ID => commit.run_id = Some(value.into()),
                    _ => {
                        commit.metadata.insert(key.into(), value.into());
                    }
                }
            }
        }
    }
    Ok(commit)
}
