//! Rows that several queries read: computed once, in parallel, and kept in Parquet files until nobody needs them.

mod keep;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use chrono::{DateTime, Utc};
use datafusion::catalog::TableProvider;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::internal_datafusion_err;
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::Result as PlanResult;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::prelude::DataFrame;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

pub(crate) use keep::Keep;
use keep::{ENDING, path};

use crate::{Engine, EngineError, Result};

/// Rows that were computed once. Where they are files, these are there as long as this is.
#[derive(Clone)]
pub struct Kept {
    rows: DataFrame,
    _files: Option<Arc<Scratch>>,
}

impl Kept {
    /// Rows that are not kept: each query computes them.
    pub fn as_is(rows: DataFrame) -> Self {
        Self { rows, _files: None }
    }

    /// The rows.
    pub fn rows(&self) -> &DataFrame {
        &self.rows
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("rows", self.rows.logical_plan()).finish_non_exhaustive()
    }
}

/// A folder for what nobody needs after a while: it is deleted when this is dropped.
pub struct Scratch {
    url: Url,
    files: Files,
}

enum Files {
    Local(#[expect(dead_code, reason = "it is dropped")] TempDir),
    Store { store: Arc<dyn ObjectStore>, folder: Path },
}

impl Scratch {
    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("url", &crate::shown(&self.url)).finish_non_exhaustive()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Files::Store { store, folder } = &self.files else { return };
        let (store, folder, url) = (Arc::clone(store), folder.clone(), self.url.clone());
        crate::blocking("kept", async move {
            // What cannot be deleted now is deleted by a vacuum.
            let found = store.list(Some(&folder)).map_ok(|file| file.location).boxed();
            let _ = store.delete_stream(found).try_collect::<Vec<_>>().await;
            // A disk keeps folders without a file.
            if let Ok(path) = url.to_file_path() {
                let parent = path.parent().map(std::path::Path::to_owned);
                let _ = std::fs::remove_dir(path);
                let _ = parent.map(std::fs::remove_dir);
            }
        });
    }
}

impl Engine {
    /// A folder that queries can write to and read: of this machine, or of a cluster; none on a cluster that was given none.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn folder(&self) -> Result<Option<Scratch>> {
        if !self.is_cluster() {
            let folder =
                tempfile::Builder::new().prefix("gosset-").tempdir_in(self.spill_directory());
            let folder = folder.map_err(|error| EngineError::of(&error))?;
            let url = Url::from_directory_path(folder.path());
            let url = url.map_err(|()| EngineError::Internal("a folder has no path".into()))?;
            return Ok(Some(Scratch { url, files: Files::Local(folder) }));
        }
        let Some(scratch) = self.scratch() else { return Ok(None) };
        let url = scratch.join(&format!("{}/", Uuid::new_v4().simple()));
        let url = url.map_err(|error| EngineError::Internal(error.to_string()))?;
        let (store, folder) = (self.stores().get(&url)?, path(&url)?);
        Ok(Some(Scratch { url, files: Files::Store { store, folder } }))
    }

    /// Deletes what runs that were killed left in the scratch folder of a cluster, or only tells it: files that are older than
    /// `age`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn clean_scratch(&self, age: Duration, dry_run: bool) -> Result<Vec<String>> {
        let Some(scratch) = self.scratch() else { return Ok(Vec::new()) };
        let (store, folder) = (self.stores().get(scratch)?, path(scratch)?);
        let young = DateTime::<Utc>::from(SystemTime::now() - age);
        let files: Vec<_> = store.list(Some(&folder)).try_collect().await?;
        let old = files.into_iter().filter(|file| file.last_modified < young);
        let old: Vec<Path> = old.map(|file| file.location).collect();
        if !dry_run {
            let these = futures::stream::iter(old.clone().into_iter().map(Ok)).boxed();
            store.delete_stream(these).try_collect::<Vec<_>>().await?;
        }
        let below = |path: &Path| {
            path.prefix_match(&folder)
                .map(|parts| parts.map(|p| p.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        Ok(old.iter().filter_map(below).collect())
    }

    /// Computes rows once for many queries, and keeps them in files: of this machine, or of the scratch folder of a cluster,
    /// where its executors write them. Files are sorted by the column `by`, so that who wants few of its values reads
    /// little.
    ///
    /// Rows on a cluster without a scratch folder, or with one that executors may not write to, are not kept: each query
    /// computes them.
    ///
    /// # Errors
    /// If they cannot be computed or written.
    pub async fn kept(&self, rows: DataFrame, by: Option<&str>) -> Result<Kept> {
        let Some(scratch) = self.folder()? else { return Ok(Kept::as_is(rows)) };
        let folder = scratch.url();
        let plan = rows.clone().create_physical_plan().await?;
        let schema = plan.schema();
        let keep = |plan| {
            let plan = match by {
                Some(by) => sorted(plan, by)?,
                None => plan,
            };
            Ok(Arc::new(Keep::new(plan, folder.clone(), by.map(ToOwned::to_owned))) as Arc<_>)
        };
        let Some(plan) = self.mapped(plan, keep)? else {
            // Nothing but this process can make them, and it is little.
            return Ok(Kept { rows: rows.cache().await?, _files: None });
        };
        let written = datafusion::physical_plan::collect(plan, self.context().task_ctx()).await;
        let written = match written.map_err(EngineError::from) {
            Ok(written) => written,
            Err(EngineError::PermissionDenied(why)) if self.is_cluster() => {
                tracing::warn!(
                    "executors may not write what queries share, each computes it: {why}"
                );
                return Ok(Kept::as_is(rows));
            }
            Err(error) => return Err(error),
        };
        let (names, counted) = names(&written)?;
        tracing::info!(rows = counted, files = names.len(), folder = %crate::shown(folder), "kept");
        let table = table(self, folder, &names, schema)?;
        Ok(Kept { rows: self.context().read_table(table)?, _files: Some(Arc::new(scratch)) })
    }

    /// The same rows for several queries: computed once and held in memory; on a cluster kept in files.
    ///
    /// # Errors
    /// As [`kept`](Self::kept).
    pub async fn held(&self, rows: DataFrame) -> Result<Kept> {
        match self.is_cluster() {
            true => self.kept(rows, None).await,
            false => Ok(Kept { rows: rows.cache().await?, _files: None }),
        }
    }
}

/// A plan whose partitions are sorted by a column, each by itself.
fn sorted(plan: Arc<dyn ExecutionPlan>, by: &str) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let key = PhysicalSortExpr::new_default(col(by, &plan.schema())?);
    let keys = LexOrdering::new([key]).ok_or_else(|| internal_datafusion_err!("no key"))?;
    Ok(Arc::new(SortExec::new(keys, plan).with_preserve_partitioning(true)))
}

/// The files that were written, by those who tell of it: an attempt that failed may have left others.
fn names(written: &[RecordBatch]) -> Result<(Vec<String>, u64)> {
    let (mut names, mut rows) = (Vec::new(), 0);
    for batch in written {
        let counted = batch.column(1).as_primitive::<UInt64Type>();
        let of_batch = arrow::compute::cast(batch.column(0), &DataType::Utf8)?;
        for (name, counted) in of_batch.as_string::<i32>().iter().zip(counted) {
            let counted = counted.unwrap_or_default();
            if counted > 0 {
                names.extend(name.map(ToOwned::to_owned));
                rows += counted;
            }
        }
    }
    names.sort_unstable();
    Ok((names, rows))
}

fn table(
    engine: &Engine,
    folder: &Url,
    names: &[String],
    schema: SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    if names.is_empty() {
        return Ok(Arc::new(MemTable::try_new(schema, vec![vec![]])?));
    }
    let urls = names.iter().map(|name| {
        let url = folder.join(name).map_err(|error| EngineError::Internal(error.to_string()))?;
        Ok(ListingTableUrl::try_new(url, None)?)
    });
    let state = engine.context().state();
    let options = state.config_options().execution.parquet.clone();
    let options = TableParquetOptions { global: options, ..TableParquetOptions::default() };
    let format = ParquetFormat::new().with_options(options);
    let options = ListingOptions::new(Arc::new(format)).with_file_extension(ENDING);
    let config = ListingTableConfig::new_with_multi_paths(urls.collect::<Result<_>>()?)
        .with_listing_options(options)
        .with_schema(schema);
    let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
    Ok(Arc::new(ListingTable::try_new(config)?.with_cache(cache)))
}
