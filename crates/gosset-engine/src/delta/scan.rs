//! The active files of one version of a Delta table, as a plain Parquet scan.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::parquet::transform_schema_to_view;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, utils::conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use deltalake::DeltaTable;
use deltalake::kernel::LogicalFileView;
use object_store::ObjectMeta;
use object_store::path::Path;
use url::{Position, Url};

use crate::{EngineError, Result, shown};

/// A table made of the files that a Delta log lists as active in one version.
///
/// It holds nothing but names, sizes and partition values, so that a cluster can be sent the scan and needs no Delta.
#[derive(Debug)]
pub(crate) struct DeltaFiles {
    store: ObjectStoreUrl,
    /// The columns as the table declares them.
    schema: SchemaRef,
    /// The columns as a scan has them: those in the files, then the partition columns.
    physical: TableSchema,
    files: Vec<ActiveFile>,
}

#[derive(Debug, Clone)]
struct ActiveFile {
    object: ObjectMeta,
    partition: Vec<ScalarValue>,
    rows: Option<usize>,
}

impl DeltaFiles {
    /// The files of the version that `table` was loaded at; strings as views if the session wants them so.
    pub(crate) fn of(table: &DeltaTable, string_views: bool) -> Result<Self> {
        Self::read(table, string_views).map_err(|error| error.about(&shown(table.table_url())))
    }

    fn read(table: &DeltaTable, string_views: bool) -> Result<Self> {
        let state = table.snapshot()?;
        if let Some(mode) = state.metadata().configuration().get("delta.columnMapping.mode")
            && mode != "none"
        {
            return Err(EngineError::BadData(
                "column mapping is not supported: the names in its files are not those of the table".into(),
            ));
        }
        let mut schema = state.snapshot().arrow_schema();
        if string_views {
            schema = Arc::new(transform_schema_to_view(&schema));
        }
        let partition_names = state.metadata().partition_columns();
        let partition_fields = partition_names
            .iter()
            .map(|name| Ok(Arc::new(schema.field_with_name(name)?.clone())))
            .collect::<Result<Vec<FieldRef>>>()?;
        let file_fields: Fields = schema
            .fields()
            .iter()
            .filter(|field| !partition_names.contains(field.name()))
            .cloned()
            .collect();

        let root = table.table_url();
        let prefix = Path::from_url_path(root.path()).map_err(object_store::Error::from)?;
        let files = state
            .log_data()
            .into_iter()
            .map(|view| active_file(&view, &prefix, &partition_fields))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            store: store_of(root)?,
            schema,
            physical: TableSchema::builder(Arc::new(Schema::new(file_fields)))
                .with_table_partition_cols(partition_fields)
                .build(),
            files,
        })
    }

    /// The files, for fingerprints.
    pub(crate) fn objects(&self) -> Vec<ObjectMeta> {
        self.files.iter().map(|file| file.object.clone()).collect()
    }

    /// The same table of some of its files.
    pub(crate) fn only(mut self, files: &[ObjectMeta]) -> Self {
        self.files
            .retain(|file| files.iter().any(|wanted| wanted.location == file.object.location));
        self
    }

    /// The files whose partition values every filter on partition columns alone lets through.
    fn pruned(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> datafusion::common::Result<Vec<ActiveFile>> {
        let names = self.physical.table_partition_cols();
        let on_partitions = filters.iter().filter(|filter| self.is_on_partitions(filter)).cloned();
        let Some(filter) = conjunction(on_partitions) else {
            return Ok(self.files.clone());
        };
        if self.files.is_empty() {
            return Ok(vec![]);
        }
        let schema = Arc::new(Schema::new(names.clone()));
        let columns = (0..names.len())
            .map(|index| {
                ScalarValue::iter_to_array(
                    self.files.iter().map(|file| file.partition[index].clone()),
                )
            })
            .collect::<datafusion::common::Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.files.len()));
        let values = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        let filter = state
            .create_physical_expr(filter, &DFSchema::try_from(schema)?)?
            .evaluate(&values)?
            .into_array(self.files.len())?;
        let filter: &BooleanArray = datafusion::common::cast::as_boolean_array(&filter)?;
        let kept = self.files.iter().zip(filter).filter(|(_, kept)| *kept == Some(true));
        Ok(kept.map(|(file, _)| file.clone()).collect())
    }

    fn is_on_partitions(&self, filter: &Expr) -> bool {
        let partitions = self.physical.table_partition_cols();
        let columns = filter.column_refs();
        !columns.is_empty()
            && !filter.is_volatile()
            && columns.iter().all(|column| partitions.find(column.name()).is_some())
    }

    /// Declared positions as positions in the scan.
    fn in_scan(&self, projection: Option<&Vec<usize>>) -> datafusion::common::Result<Vec<usize>> {
        let declared: Vec<usize> = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let physical = self.physical.table_schema();
        declared
            .into_iter()
            .map(|index| Ok(physical.index_of(self.schema.field(index).name())?))
            .collect()
    }
}

#[async_trait]
impl TableProvider for DeltaFiles {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match self.is_on_partitions(filter) {
                true => TableProviderFilterPushDown::Exact,
                // Row groups are skipped by the scan; rows are filtered above it.
                false => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let files = self.pruned(state, filters)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let mut statistics = Statistics::new_unknown(self.physical.table_schema());
        if let Some(rows) = files.iter().map(|file| file.rows).sum::<Option<usize>>() {
            // Written by whoever wrote the table: good for plans, not for answers.
            statistics.num_rows = Precision::Inexact(rows);
        }
        let files = files.into_iter().map(|file| {
            PartitionedFile::new_from_meta(file.object).with_partition_values(file.partition)
        });
        let groups =
            FileGroup::new(files.collect()).split_files(state.config().target_partitions());
        let source = ParquetSource::new(self.physical.clone())
            .with_table_parquet_options(state.table_options().parquet.clone());
        let scan = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(self.in_scan(projection)?))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

fn active_file(
    view: &LogicalFileView,
    prefix: &Path,
    partition_fields: &[FieldRef],
) -> Result<ActiveFile> {
    if view.deletion_vector_descriptor().is_some() {
        return Err(EngineError::BadData(
            "deletion vectors are not supported: run OPTIMIZE or REORG ... APPLY (PURGE) where it is written".into(),
        ));
    }
    let path = view.path();
    if path.contains("://") {
        return Err(EngineError::BadData(format!(
            "files outside of the table are not supported: {path}"
        )));
    }
    let location = Path::from_iter(prefix.parts().chain(view.object_store_path().parts()));
    let values = view.partition_values_map();
    let partition = partition_fields
        .iter()
        .map(|field| partition_value(field, values.get(field.name()).and_then(Option::as_deref)))
        .collect::<Result<Vec<_>>>()?;
    let size = u64::try_from(view.size())
        .map_err(|_| EngineError::BadData(format!("{path}: a size of {}", view.size())))?;
    let object = ObjectMeta {
        location,
        last_modified: view.modification_datetime()?,
        size,
        e_tag: None,
        version: None,
    };
    Ok(ActiveFile { object, partition, rows: view.num_records() })
}

/// The log keeps partition values as text; the empty string is NULL there.
fn partition_value(field: &Field, text: Option<&str>) -> Result<ScalarValue> {
    match text {
        None | Some("") => Ok(ScalarValue::try_from(field.data_type())?),
        Some(text) => Ok(ScalarValue::try_from_string(text.to_owned(), field.data_type())?),
    }
}

fn store_of(root: &Url) -> Result<ObjectStoreUrl> {
    Ok(ObjectStoreUrl::parse(&root[Position::BeforeScheme..Position::BeforePath])?)
}
