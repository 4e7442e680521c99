//! A session with Gosset's functions, stores and limits.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::catalog::{DynamicFileCatalog, TableProvider, UrlTableFactory};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use object_store::ObjectMeta;
use url::Url;

#[cfg(feature = "cluster")]
use crate::cluster::OnCluster;
use crate::files::{self, DeltaTables, FileTables, Listing};
use crate::options::default_memory_limit;
use crate::radix::RadixAggregation;
use crate::{EngineError, EngineOptions, Result, Stores, stores};

/// How many of the largest holders a memory error names.
const HOLDERS_NAMED: NonZeroUsize = NonZeroUsize::new(5).expect("five is not zero");

/// A place where queries run: this process, or a cluster.
///
/// Cloning is cheap and shares the session, its tables and its limits.
#[derive(Clone)]
pub struct Engine {
    context: SessionContext,
    stores: Stores,
    #[cfg(feature = "cluster")]
    cluster: Option<crate::cluster::Cluster>,
    #[cfg(feature = "cluster")]
    is_split_as_told: bool,
    spill_directory: Option<PathBuf>,
    scratch: Option<Url>,
}

impl Engine {
    /// A new session.
    pub fn new(options: EngineOptions) -> Result<Self> {
        let stores = options.stores.clone();
        let spill_directory = options.spill_directory.clone();
        #[cfg(feature = "cluster")]
        let (cluster, is_split_as_told) =
            (options.cluster.clone(), options.target_partitions.is_some());
        #[cfg(feature = "cluster")]
        let config = cluster.as_ref().map_or_else(SessionConfig::new, |cluster| cluster.config());
        #[cfg(not(feature = "cluster"))]
        let config = SessionConfig::new();
        let mut config = config.with_information_schema(true);
        if let Some(partitions) = options.target_partitions {
            config = config.with_target_partitions(partitions);
        }
        if let Some(rows) = options.batch_size {
            config = config.with_batch_size(rows);
        }
        // A quoted value may have line breaks in it: a file that is cut at one would have other rows for other partitions.
        config.options_mut().catalog.newlines_in_values = true;
        let execution = &mut config.options_mut().execution;
        // Rows that a filter drops are not decoded.
        execution.parquet.pushdown_filters = true;
        execution.parquet.reorder_filters = true;

        let files = Arc::new(FileTables::new(stores.clone()));
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime(options)?)
            .with_default_features()
            .with_table_factory("DELTA".into(), Arc::new(DeltaTables { stores: stores.clone() }));
        let local = |state: SessionStateBuilder| {
            state.with_physical_optimizer_rule(Arc::new(RadixAggregation))
        };
        #[cfg(feature = "cluster")]
        let state = match &cluster {
            // Its stages are cut where DataFusion exchanges rows, and a task has one partition.
            Some(cluster) => cluster.session(state),
            None => local(state),
        };
        #[cfg(not(feature = "cluster"))]
        let state = local(state);
        let state = state.build();
        let catalogs = Arc::new(DynamicFileCatalog::new(
            Arc::clone(state.catalog_list()),
            Arc::clone(&files) as Arc<dyn UrlTableFactory>,
        ));
        let context = SessionContext::new_with_state(state);
        context.register_catalog_list(catalogs);
        gosset_sql::register(&mut context.clone())?;

        let session = context.state_weak_ref();
        files.belongs_to(move || session.upgrade().map(|state| state.read().clone()));
        Ok(Self {
            context,
            stores,
            #[cfg(feature = "cluster")]
            cluster,
            #[cfg(feature = "cluster")]
            is_split_as_told,
            spill_directory,
            scratch: None,
        })
    }

    /// Waits until the cluster, if there is one, can run queries; they are then split into as many parts as it has slots,
    /// unless it was said how many.
    ///
    /// Queries wait for the cluster by themselves too. This says at once what is wrong with it.
    #[cfg(feature = "cluster")]
    pub async fn connect(&self) -> Result<()> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let slots = cluster.connect().await?.slots();
        if !self.is_split_as_told {
            let state = self.context.state_ref();
            state.write().config_mut().options_mut().execution.target_partitions = slots.max(1);
        }
        Ok(())
    }

    /// The session, for everything that DataFusion offers.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Whether queries run on a cluster.
    pub fn is_cluster(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.cluster.is_some();
        #[cfg(not(feature = "cluster"))]
        return false;
    }

    /// Where a cluster's executors keep what several queries share; it is nowhere unless given.
    ///
    /// # Errors
    /// If that is not a location.
    pub fn with_scratch(mut self, folder: &str) -> Result<Self> {
        self.scratch = Some(stores::folder(folder)?);
        Ok(self)
    }

    pub(crate) fn scratch(&self) -> Option<&Url> {
        self.scratch.as_ref()
    }

    pub(crate) fn spill_directory(&self) -> PathBuf {
        self.spill_directory.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// A plan with a node put around it where it runs; none where a plan of a cluster's session runs in this process.
    pub(crate) fn mapped(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        map: impl FnOnce(Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        #[cfg(feature = "cluster")]
        if self.is_cluster() {
            let Some(on_cluster) = plan.downcast_ref::<OnCluster>() else { return Ok(None) };
            return Ok(Some(Arc::new(on_cluster.mapped(map)?)));
        }
        map(plan).map(Some)
    }

    /// The object stores, shared with the session.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The statements of a script, split by the parser: a semicolon in a string or a comment does not end one.
    pub fn parse(&self, script: &str) -> Result<Vec<Statement>> {
        let state = self.context.state();
        let options = &state.config_options().sql_parser;
        let dialect = datafusion::sql::sqlparser::dialect::dialect_from_str(options.dialect)
            .ok_or_else(|| EngineError::Query(format!("unknown dialect {:?}", options.dialect)))?;
        let statements = DFParserBuilder::new(script)
            .with_dialect(dialect.as_ref())
            .with_recursion_limit(options.recursion_limit.get())
            .build()?
            .parse_statements()?;
        Ok(statements.into())
    }

    /// Plans one statement.
    pub async fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        Ok(self.context.state().statement_to_plan(statement).await?)
    }

    /// Runs a plan; what it returns is read as it is made. A statement without a result gives a stream without columns.
    pub async fn execute(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        Ok(self.context.execute_logical_plan(plan).await?.execute_stream().await?)
    }

    /// Plans one query.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        Ok(self.context.sql(query).await?)
    }

    /// The table at a location: a file, a directory, a pattern or a Delta table, as a path or a URL.
    pub async fn table(&self, location: &str) -> Result<Arc<dyn TableProvider>> {
        files::table(&self.context.state(), &self.stores, location).await
    }

    /// The rows at a location.
    pub async fn read(&self, location: &str) -> Result<DataFrame> {
        Ok(self.context.read_table(self.table(location).await?)?)
    }

    /// The files that reading a location would read.
    pub async fn list(&self, location: &str) -> Result<Listing> {
        files::list(&self.context.state(), &self.stores, location).await
    }

    /// The rows of some files of a listing.
    pub async fn read_files(&self, listing: &Listing, files: &[ObjectMeta]) -> Result<DataFrame> {
        let table = files::table_of(&self.context.state(), &self.stores, listing, files).await?;
        Ok(self.context.read_table(table)?)
    }

    /// The runtime: memory pool, spill directory, stores.
    pub(crate) fn runtime(&self) -> Arc<RuntimeEnv> {
        self.context.runtime_env()
    }
}

/// Memory pool, spill directory, stores: the same for every part of a cluster.
pub(crate) fn runtime(options: EngineOptions) -> Result<Arc<RuntimeEnv>> {
    let mut builder = RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(options.stores))
        // A listing that is kept would miss the files of a later run.
        .with_object_list_cache_limit(0);
    if let Some(bytes) = options.memory_limit.or_else(default_memory_limit) {
        builder = builder.with_memory_pool(Arc::new(TrackConsumersPool::new(
            FairSpillPool::new(bytes),
            HOLDERS_NAMED,
        )));
    }
    if let Some(directory) = options.spill_directory {
        builder = builder.with_temp_file_path(directory);
    }
    Ok(builder.build_arc()?)
}
