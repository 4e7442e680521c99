//! How text files are written: a plan that is sent does not say by what they are compressed, nor that a JSON file is one
//! array. A node above the scan says it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::internal_datafusion_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, JsonSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// A scan of text files, and how they are written.
#[derive(Debug)]
pub(crate) struct AsWritten {
    /// The scan as it is sent.
    scan: Arc<dyn ExecutionPlan>,
    /// The scan that runs: one for all partitions, as they take files from one another.
    reading: Arc<dyn ExecutionPlan>,
    compression: FileCompressionType,
    array: bool,
}

impl AsWritten {
    /// A node above a scan, if it takes one. `array` says that its files are arrays of JSON.
    pub(crate) fn of(
        scan: &Arc<dyn ExecutionPlan>,
        array: bool,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let compression = file_scan(scan).map(|config| config.file_compression_type);
        let compression = compression.unwrap_or(FileCompressionType::UNCOMPRESSED);
        if !array && compression == FileCompressionType::UNCOMPRESSED {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self::new(Arc::clone(scan), compression, array)?)))
    }

    fn new(
        scan: Arc<dyn ExecutionPlan>,
        compression: FileCompressionType,
        array: bool,
    ) -> Result<Self> {
        let config = file_scan(&scan).ok_or_else(|| {
            internal_datafusion_err!("expected a scan of files, found {}", scan.name())
        })?;
        let mut reading =
            FileScanConfigBuilder::from(config.clone()).with_file_compression_type(compression);
        if let Some(json) = config.file_source().downcast_ref::<JsonSource>().filter(|_| array) {
            reading = reading.with_source(Arc::new(json.clone().with_newline_delimited(false)));
        }
        let reading = DataSourceExec::from_data_source(reading.build());
        Ok(Self { scan, reading, compression, array })
    }
}

impl AsWritten {
    /// What is sent of it beside the scan.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.push(u8::from(self.array));
        to.extend(self.compression.get_variant().to_string().as_bytes());
    }

    /// The node that was sent.
    pub(crate) fn decode(bytes: &[u8], scan: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let unreadable = || internal_datafusion_err!("a scan of text is unreadable");
        let (array, compression) = bytes.split_first().ok_or_else(unreadable)?;
        let compression = std::str::from_utf8(compression).map_err(|_| unreadable())?;
        Self::new(scan, FileCompressionType::from_str(compression)?, *array != 0)
    }
}

/// The files that a node reads, if it is a scan of files.
pub(crate) fn file_scan(node: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    node.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref()
}

impl DisplayAs for AsWritten {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsWritten: compression={}, array={}", self.compression.get_variant(), self.array)
    }
}

impl ExecutionPlan for AsWritten {
    fn name(&self) -> &str {
        "AsWritten"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.scan]
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
        let scan = children.into_iter().next();
        let scan = scan.ok_or_else(|| internal_datafusion_err!("expected a scan, found none"))?;
        Ok(Arc::new(Self::new(scan, self.compression, self.array)?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.reading.execute(partition, context)
    }
}
