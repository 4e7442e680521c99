//! How plans are written and read: as Ballista does it, with our nodes beside its own.

use std::sync::Arc;

use ballista_core::serde::{
    BallistaCodec, BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec,
};
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};

use super::written::AsWritten;
use crate::kept::Keep;

const BALLISTA: u8 = b'b';
const AS_WRITTEN: u8 = b'w';
const KEEP: u8 = b'k';

/// Ballista's codec, and our nodes.
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
        let (tag, rest) = buf.split_first().ok_or_else(unreadable)?;
        Ok(match (*tag, inputs) {
            (BALLISTA, _) => self.0.try_decode(rest, inputs, context, converter)?,
            (AS_WRITTEN, [scan]) => Arc::new(AsWritten::decode(rest, Arc::clone(scan))?),
            (KEEP, [rows]) => Arc::new(Keep::decode(rest, Arc::clone(rows))?),
            _ => return Err(unreadable()),
        })
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some(written) = node.downcast_ref::<AsWritten>() {
            buf.push(AS_WRITTEN);
            written.encode(buf);
            return Ok(());
        }
        if let Some(keep) = node.downcast_ref::<Keep>() {
            buf.push(KEEP);
            return keep.encode(buf);
        }
        buf.push(BALLISTA);
        self.0.try_encode(node, buf, converter)
    }
}
