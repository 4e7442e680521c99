//! The one adapter: an aggregate function over states that update, merge, encode and decode.
//!
//! Both accumulators of DataFusion are made here from the same [`States`]: the row accumulator is the states of one
//! group, and `convert_to_state` is the states of as many groups as there are rows. So their states agree by
//! construction.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, LargeBinaryBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, exec_datafusion_err, internal_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, ExprSchemable, GroupsAccumulator,
    Signature, Volatility, udaf_default_display_name, udaf_default_human_display,
};

use crate::call::{Call, has_options, packed};
use crate::explain;
use crate::function::{AggregateParts, Function, Implementation};
use crate::input;

/// The states of all groups of one aggregate in one partition.
pub(crate) trait States: std::fmt::Debug + Send + Sync {
    /// Makes it `groups` groups; new ones are empty.
    fn resize(&mut self, groups: usize);
    /// Adds row `r` of the arguments to group `groups[r]`, if the filter is true there.
    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()>;
    /// Adds a state that [`encode`](Self::encode) made.
    fn merge(&mut self, group: usize, state: &[u8]) -> Result<()>;
    /// Adds many such states; the default adds one after the other.
    fn merge_all(&mut self, groups: &[usize], states: &[&[u8]]) -> Result<()> {
        groups.iter().zip(states).try_for_each(|(&group, state)| self.merge(group, state))
    }
    /// Appends the state of a group: canonical bytes.
    fn encode(&self, group: usize, out: &mut Vec<u8>);
    /// The results of some groups.
    fn evaluate(&self, groups: Range<usize>) -> Result<ArrayRef>;
    /// Removes the first groups; the others move down.
    fn drop_first(&mut self, groups: usize);
    /// Bytes held.
    fn size(&self) -> usize;
    /// Checks what only the whole of an ungrouped query can tell.
    fn check_whole(&self) -> Result<()> {
        Ok(())
    }
}

/// The arguments after the types are coerced, with the name of the function in every error.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Aggregate {
    function: &'static Function,
    signature: Signature,
}

impl Aggregate {
    pub(crate) fn new(function: &'static Function) -> Self {
        Self { function, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn parts(&self) -> &AggregateParts {
        match &self.function.implementation {
            Implementation::Aggregate(parts) => parts,
            Implementation::Scalar(_) => unreachable!("only aggregates are registered as such"),
        }
    }

    /// What EXPLAIN shows.
    fn with_cost(&self, text: String, params: &AggregateFunctionParams) -> String {
        match explain::cost(self.function, &params.args) {
            Some(cost) => format!("{text} [{cost}]"),
            None => text,
        }
    }

    fn states(&self, args: &AccumulatorArgs<'_>) -> Result<(Box<dyn States>, StatesSource)> {
        crate::planner::check_distinct(self.function, args.is_distinct)?;
        let call = Call::from_exprs(self.function, args.exprs, args.expr_fields)?;
        let source = StatesSource { make: self.parts().states, call };
        Ok((source.states()?, source))
    }
}

/// Makes empty states.
#[derive(Debug, Clone)]
struct StatesSource {
    make: fn(&Call) -> Result<Box<dyn States>>,
    call: Call,
}

impl StatesSource {
    fn states(&self) -> Result<Box<dyn States>> {
        (self.make)(&self.call)
    }

    /// The arguments without the options.
    fn args<'a>(&self, values: &'a [ArrayRef]) -> &'a [ArrayRef] {
        &values[..self.call.arguments.len()]
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        input::coerce_or_leave(self.function, types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        input::coerce(self.function, types)?;
        Ok((self.parts().returns)())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "state");
        Ok(vec![Arc::new(Field::new(name, DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (mut states, source) = self.states(&args)?;
        states.resize(1);
        Ok(Box::new(RowAccumulator { states, source, zeros: Vec::new() }))
    }

    /// The accumulator of a window frame whose start moves: values would have to leave it again.
    fn create_sliding_accumulator(
        &self,
        _args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        plan_err!(
            "{}: a window frame whose start moves is not supported; expected UNBOUNDED PRECEDING",
            self.function.name
        )
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let (states, source) = self.states(&args)?;
        Ok(Box::new(ManyGroups { states, source, groups: 0 }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        Ok(self.with_cost(udaf_default_display_name(self, params)?, params))
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        Ok(self.with_cost(udaf_default_human_display(self, params)?, params))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(crate::docs::documentation(self.function))
    }

    /// Packs literal options, which would otherwise be written out for every row.
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let function = self.function;
        Some(Box::new(move |mut call, info| {
            let types = call.params.args.iter().map(|arg| arg.get_type(info.schema()));
            let types: Vec<DataType> = types.collect::<Result<_>>()?;
            if let Some(Expr::Literal(options @ ScalarValue::Struct(_), _)) =
                call.params.args.last_mut()
                && has_options(function, &types, true)
            {
                *options = packed(std::mem::replace(options, ScalarValue::Null));
            }
            Ok(Expr::AggregateFunction(call))
        }))
    }
}

/// The states of one group.
#[derive(Debug)]
struct RowAccumulator {
    states: Box<dyn States>,
    source: StatesSource,
    zeros: Vec<usize>,
}

impl Accumulator for RowAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |v| v.len());
        self.zeros.resize(rows, 0);
        self.states.update(self.source.args(values), &self.zeros, None)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let states = binary_values(states)?;
        self.zeros.resize(states.len(), 0);
        let present: Vec<&[u8]> = states.into_iter().flatten().collect();
        self.states.merge_all(&self.zeros[..present.len()], &present)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.states.encode(0, &mut bytes);
        Ok(vec![ScalarValue::LargeBinary(Some(bytes))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.states.check_whole()?;
        ScalarValue::try_from_array(&self.states.evaluate(0..1)?, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.states.size() + self.zeros.capacity() * size_of::<usize>()
    }
}

/// The states of many groups.
#[derive(Debug)]
struct ManyGroups {
    states: Box<dyn States>,
    source: StatesSource,
    groups: usize,
}

impl ManyGroups {
    fn resize(&mut self, groups: usize) {
        self.groups = groups;
        self.states.resize(groups);
    }

    fn emitted(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(n) => n,
        }
    }

    /// Lets the first groups go. When all go, their memory does: a stream that spills counts on it.
    fn drop_first(&mut self, n: usize) -> Result<()> {
        if n == self.groups {
            self.states = self.source.states()?;
        } else {
            self.states.drop_first(n);
        }
        self.groups -= n;
        Ok(())
    }
}

impl GroupsAccumulator for ManyGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        self.states.update(self.source.args(values), group_indices, opt_filter)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let states = binary_values(values)?;
        let (groups, states): (Vec<usize>, Vec<&[u8]>) = group_indices
            .iter()
            .zip(states)
            .filter_map(|(&group, state)| state.map(|state| (group, state)))
            .unzip();
        self.states.merge_all(&groups, &states)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let n = self.emitted(emit_to);
        let results = self.states.evaluate(0..n)?;
        self.drop_first(n)?;
        Ok(results)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let n = self.emitted(emit_to);
        let states = encode_all(self.states.as_ref(), n);
        self.drop_first(n)?;
        Ok(vec![states])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |v| v.len());
        let groups: Vec<usize> = (0..rows).collect();
        let mut states = self.source.states()?;
        states.resize(rows);
        states.update(self.source.args(values), &groups, opt_filter)?;
        Ok(vec![encode_all(states.as_ref(), rows)])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.states.size()
    }
}

fn encode_all(states: &dyn States, groups: usize) -> ArrayRef {
    let mut builder = LargeBinaryBuilder::with_capacity(groups, 16 * groups);
    let mut bytes = Vec::new();
    for group in 0..groups {
        bytes.clear();
        states.encode(group, &mut bytes);
        builder.append_value(&bytes);
    }
    Arc::new(builder.finish())
}

/// The states of a batch. They are LargeBinary when they are made; a shuffle or a file may hand them on otherwise.
fn binary_values(states: &[ArrayRef]) -> Result<Vec<Option<&[u8]>>> {
    let [array] = states else {
        return Err(internal_datafusion_err!(
            "expected one column of states, found {}",
            states.len()
        ));
    };
    input::binary_values(array).ok_or_else(|| {
        exec_datafusion_err!("expected states as binary, found {}", array.data_type())
    })
}
