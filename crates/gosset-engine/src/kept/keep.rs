//! The operator that writes rows to files.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use url::Url;
use uuid::Uuid;

/// The ending of the files' names.
pub(super) const ENDING: &str = ".parquet";

/// Rows that a file holds in memory while it is written.
const ROWS_AT_ONCE: usize = 1 << 16;
/// Rows of a page: what is read of a file that is sorted is a page at least.
const ROWS_OF_A_PAGE: usize = 1 << 12;

/// Where a folder is in its store.
pub(super) fn path(url: &Url) -> Result<Path> {
    Path::from_url_path(url.path()).map_err(|error| DataFusionError::External(error.into()))
}

/// Writes each partition to a file of its own in a folder, and gives its name and the number of its rows.
#[derive(Debug)]
pub(crate) struct Keep {
    rows: Arc<dyn ExecutionPlan>,
    folder: Url,
    /// The column that rows are sorted by.
    by: Option<String>,
    properties: Arc<PlanProperties>,
}

impl Keep {
    pub(super) fn new(rows: Arc<dyn ExecutionPlan>, folder: Url, by: Option<String>) -> Self {
        let schema = Arc::new(Schema::new(vec![
            Field::new("file", DataType::Utf8, false),
            Field::new("rows", DataType::UInt64, false),
        ]));
        let partitions = rows.properties().partitioning.partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { rows, folder, by, properties }
    }

    /// What is sent of it beside its rows.
    #[cfg(feature = "cluster")]
    pub(crate) fn encode(&self, to: &mut Vec<u8>) -> Result<()> {
        let told = |error: serde_json::Error| DataFusionError::External(error.into());
        serde_json::to_writer(to, &(self.folder.as_str(), &self.by)).map_err(told)
    }

    /// The node that was sent.
    #[cfg(feature = "cluster")]
    pub(crate) fn decode(bytes: &[u8], rows: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let unreadable = |_| internal_datafusion_err!("a folder of rows is unreadable");
        let (folder, by): (String, Option<String>) =
            serde_json::from_slice(bytes).map_err(unreadable)?;
        let folder = Url::parse(&folder)
            .map_err(|_| internal_datafusion_err!("a folder of rows is no location"))?;
        Ok(Self::new(rows, folder, by))
    }

    fn writer_properties(&self) -> WriterProperties {
        let mut properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(ROWS_AT_ONCE))
            .set_statistics_enabled(EnabledStatistics::None);
        if let Some(by) = &self.by {
            let by = ColumnPath::from(by.as_str());
            properties = properties
                .set_data_page_row_count_limit(ROWS_OF_A_PAGE)
                .set_column_statistics_enabled(by, EnabledStatistics::Page);
        }
        properties.build()
    }
}

impl DisplayAs for Keep {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keep: folder={}, by={}", self.folder, self.by.as_deref().unwrap_or_default())
    }
}

impl ExecutionPlan for Keep {
    fn name(&self) -> &str {
        "Keep"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(rows) = children.into_iter().next() else {
            return internal_err!("expected rows to keep, found none");
        };
        Ok(Arc::new(Self::new(rows, self.folder.clone(), self.by.clone())))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        // Each attempt has a name of its own: what one leaves is not taken for the whole of another.
        let name = format!("{}{ENDING}", Uuid::new_v4().simple());
        let store = context.runtime_env().object_store_registry.get_store(&self.folder)?;
        let file = path(&self.folder)?.join(name.as_str());
        let rows = self.rows.execute(partition, context)?;
        let properties = self.writer_properties();
        let (schema, told) = (self.schema(), self.schema());
        let written = async move {
            let counted = write(rows, store, file, properties).await?;
            let columns: Vec<arrow::array::ArrayRef> = vec![
                Arc::new(StringArray::from(vec![name])),
                Arc::new(UInt64Array::from(vec![counted])),
            ];
            Ok(RecordBatch::try_new(told, columns)?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(written))))
    }
}

/// Writes rows to a file, if there are any, and counts them.
async fn write(
    mut rows: SendableRecordBatchStream,
    store: Arc<dyn ObjectStore>,
    file: Path,
    properties: WriterProperties,
) -> Result<u64> {
    let mut writer: Option<AsyncArrowWriter<BufWriter>> = None;
    let mut counted = 0;
    let schema = rows.schema();
    while let Some(batch) = rows.try_next().await? {
        if batch.num_rows() == 0 {
            continue;
        }
        counted += batch.num_rows() as u64;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let to = BufWriter::new(Arc::clone(&store), file.clone());
                let properties = Some(properties.clone());
                none.insert(AsyncArrowWriter::try_new(to, Arc::clone(&schema), properties)?)
            }
        };
        writer.write(&batch).await?;
    }
    if let Some(writer) = writer {
        writer.close().await?;
    }
    Ok(counted)
}
