//! How text files are written: a plan that is sent does not say by what they are compressed, nor that a JSON file is one
//! array. A node above the scan says it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ballista_core::serde::{
    BallistaCodec, BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec,
};
use datafusion::common::internal_datafusion_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, JsonSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};

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

const OURS: u8 = b'g';
const THEIRS: u8 = b'b';

/// Ballista's codec, and our node.
#[derive(Debug, Default)]
pub(crate) struct Codec(BallistaPhysicalExtensionCodec);

/// How the scheduler and executors read plans.
pub(crate) fn codec() -> BallistaCodec<LogicalPlanNode, PhysicalPlanNode> {
    BallistaCodec::new(
        Arc::new(BallistaLogicalExtensionCodec::default()),
        Arc::new(Codec::default()),
    )
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let unreadable = || internal_datafusion_err!("a node of the plan is unreadable");
        match buf.split_first().ok_or_else(unreadable)? {
            (&THEIRS, rest) => self.0.try_decode(rest, inputs, context, converter),
            (&OURS, rest) => {
                let (array, compression) = rest.split_first().ok_or_else(unreadable)?;
                let compression = std::str::from_utf8(compression).map_err(|_| unreadable())?;
                let [scan] = inputs else { return Err(unreadable()) };
                let compression = FileCompressionType::from_str(compression)?;
                Ok(Arc::new(AsWritten::new(Arc::clone(scan), compression, *array != 0)?))
            }
            _ => Err(unreadable()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(written) = node.downcast_ref::<AsWritten>() else {
            buf.push(THEIRS);
            return self.0.try_encode(node, buf, converter);
        };
        buf.extend([OURS, u8::from(written.array)]);
        buf.extend(written.compression.get_variant().to_string().as_bytes());
        Ok(())
    }
}
