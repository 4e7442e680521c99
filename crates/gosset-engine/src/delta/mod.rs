//! Delta tables: read as plain Parquet scans, published in one atomic commit.
//!
//! What `deltalake` does not do by itself and this module does:
//! * a table is created first and alone; a write always starts from a snapshot, so that its conflict check runs;
//! * after any error of a commit the log is read again, because a commit whose answer was lost has landed;
//! * what is read is the active files of one version as a plain Parquet scan, the same in this process and on a cluster.

mod scan;
mod table;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake::DeltaTable;
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::logstore::{StorageConfig, default_logstore};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

pub(crate) use scan::DeltaFiles;
pub use table::{Commit, DeltaTableHandle, Published, any_of, partition};
pub use upkeep::{Compacted, Restoration, Unneeded};

use crate::{Engine, EngineError, Result, Stores, shown, stores};

/// Key and value pairs kept with a commit.
pub type Metadata = BTreeMap<String, String>;

/// A directory of Delta tables.
#[derive(Clone)]
pub struct DeltaStore {
    root: Url,
    engine: Engine,
}

impl DeltaStore {
    /// The tables below `root`, a path or a URL. Nothing is read or written yet.
    pub fn open(root: &str, engine: &Engine) -> Result<Self> {
        let root = stores::folder(root)?;
        // An unknown scheme is an error here, not in the middle of a run.
        engine.stores().get(&root)?;
        Ok(Self { root, engine: engine.clone() })
    }

    /// Where the tables are.
    pub fn url(&self) -> &Url {
        &self.root
    }

    /// Where one table is.
    pub fn table_url(&self, name: &str) -> Result<Url> {
        let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if !plain {
            return Err(EngineError::Option(format!(
                "'{name}' is not a table name (letters, digits, _, - and ., a letter or digit first)"
            )));
        }
        self.root.join(&format!("{name}/")).map_err(|error| EngineError::Option(error.to_string()))
    }

    /// The table as of its latest version; `None` if it was never created.
    pub async fn existing(&self, name: &str) -> Result<Option<DeltaTableHandle>> {
        let url = self.table_url(name)?;
        let table = load(&url, self.engine.stores()).await?;
        Ok(table.map(|table| DeltaTableHandle::new(table, self.engine.clone())))
    }

    /// The table as of an earlier version; `None` if it was never created.
    pub async fn existing_at(&self, name: &str, version: u64) -> Result<Option<DeltaTableHandle>> {
        let Some(mut handle) = self.existing(name).await? else { return Ok(None) };
        let loaded = handle.table.load_version(version).await;
        loaded.map_err(|error| handle.told(error.into()))?;
        Ok(Some(handle))
    }

    /// The names of the folders that can be tables, in their order.
    pub async fn names(&self) -> Result<Vec<String>> {
        let about = |error: object_store::Error| EngineError::from(error).about(&shown(&self.root));
        let root = Path::from_url_path(self.root.path()).map_err(|e| about(e.into()))?;
        let store = self.engine.stores().get(&self.root)?;
        let found = match store.list_with_delimiter(Some(&root)).await {
            Ok(found) => found.common_prefixes,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(about(error)),
        };
        let mut names: Vec<String> =
            found.iter().filter_map(|path| path.filename().map(ToOwned::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// The table as of its latest version, created if it does not exist, ready to be written.
    ///
    /// A table that lacks columns of `schema` gets them, nullable, with the next commit. One that has columns or types
    /// that `schema` does not know was written by another version of the program and is refused.
    pub async fn table(
        &self,
        name: &str,
        schema: SchemaRef,
        partition_columns: &[&str],
    ) -> Result<DeltaTableHandle> {
        let handle = match self.existing(name).await? {
            Some(handle) => handle,
            None => {
                self.create(name, &schema, partition_columns).await?;
                self.existing(name).await?.ok_or_else(|| {
                    EngineError::Conflict(format!("table '{name}' vanished after it was created"))
                })?
            }
        };
        handle.accept(&schema, partition_columns)?;
        Ok(handle)
    }

    /// Creates an empty table. Losing the race to create it is no error: the winner's is used.
    async fn create(
        &self,
        name: &str,
        schema: &SchemaRef,
        partition_columns: &[&str],
    ) -> Result<()> {
        let url = self.table_url(name)?;
        let columns: StructType = schema.as_ref().try_into_kernel().map_err(EngineError::from)?;
        let created = CreateBuilder::new()
            .with_log_store(unloaded(&url, self.engine.stores())?.log_store())
            .with_table_name(name)
            .with_columns(columns.fields().cloned())
            .with_partition_columns(partition_columns.iter().copied())
            // Commits are where a run's inputs and configuration are kept: they are not cleaned away after a month.
            .with_configuration([("delta.enableExpiredLogCleanup", Some("false"))])
            .with_save_mode(SaveMode::Ignore)
            // Tried again, a creation that lost the race would become the second version and change the metadata under
            // everyone who writes.
            .with_commit_properties(CommitProperties::default().with_max_retries(0))
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) => match load(&url, self.engine.stores()).await? {
                Some(_) => Ok(()),
                None => Err(EngineError::from(error).about(&shown(&url))),
            },
        }
    }
}

/// The table at `url` as of its latest version, `None` where there is none.
pub(crate) async fn load(url: &Url, stores: &Stores) -> Result<Option<DeltaTable>> {
    let mut table = unloaded(url, stores)?;
    let about = |error| EngineError::from(error).about(&shown(url));
    if !table.verify_deltatable_existence().await.map_err(about)? {
        return Ok(None);
    }
    table.load().await.map_err(about)?;
    Ok(Some(table))
}

/// A table on the shared store, before its log is read.
fn unloaded(url: &Url, stores: &Stores) -> Result<DeltaTable> {
    let root = stores.get(url)?;
    let config = StorageConfig::default();
    let prefixed = config.decorate_store(Arc::clone(&root), url)?;
    Ok(DeltaTable::new(default_logstore(Arc::from(prefixed), root, url, &config)))
}
