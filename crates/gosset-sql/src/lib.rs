//! The SQL functions of Gosset on DataFusion.
//!
//! A function is an entry of [`FUNCTIONS`]: name, arguments, options, documentation, value version and what it does.
//! Aggregates are all one adapter: a summary's `update / merge / encode / decode` gives the row
//! accumulator, the groups accumulator and `convert_to_state`, so that no function has a state of its own.
//!
//! [`register`] adds all of them, and the planner that checks their options while SQL is planned, to a session. A
//! distributed plan carries only names: client, scheduler and executor register from the same slice.

mod aggregate;
mod call;
mod docs;
mod effect;
mod explain;
mod function;
mod functions;
mod gram;
mod input;
mod labels;
mod linear;
mod options;
mod planner;
mod scalar;
pub mod size;
mod summarize;
mod two_arm;

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_expr::PhysicalExpr;

pub use docs::{function_help, functions_json, functions_markdown};
pub use effect::{effect_fields, effects_to_struct};
pub use function::{Argument, ArgumentKind, Example, Function, Section};
pub use functions::FUNCTIONS;
pub use options::{OptionSpec, OptionValues};

/// Adds every function and the planner of their options to a session or to a registry of a server.
///
/// # Errors
/// If the registry refuses a function.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in FUNCTIONS {
        match function.implementation {
            function::Implementation::Aggregate(_) => {
                registry.register_udaf(Arc::new(aggregate_udf(function)))?;
            }
            function::Implementation::Scalar(_) => {
                registry.register_udf(Arc::new(scalar_udf(function)))?;
            }
        }
    }
    registry.register_expr_planner(Arc::new(planner::OptionsPlanner))
}

/// The unit of an aggregate that gives each unit a weight in every replicate: where the rows of a unit follow each other,
/// it has fewer weights to draw. None of other functions, and of wrong arguments.
pub fn weighted_unit(
    name: &str,
    args: &[Arc<dyn PhysicalExpr>],
    schema: &Schema,
) -> Option<Arc<dyn PhysicalExpr>> {
    let function = function(name)?;
    let fields = args.iter().map(|arg| arg.return_field(schema)).collect::<Result<Vec<_>>>();
    let call = call::Call::from_exprs(function, args, &fields.ok()?).ok()?;
    args.get(call.unit().filter(|_| call.weights_units())?).cloned()
}

/// The entry of a function by its name, in any case.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().copied().find(|f| f.name.eq_ignore_ascii_case(name))
}

fn aggregate_udf(function: &'static Function) -> AggregateUDF {
    AggregateUDF::new_from_impl(aggregate::Aggregate::new(function))
}

fn scalar_udf(function: &'static Function) -> ScalarUDF {
    ScalarUDF::new_from_impl(scalar::Scalar::new(function))
}
