//! Scalar functions of stored summaries.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

use crate::call::Call;
use crate::function::{ArgumentKind, Function, Implementation, ScalarParts};
use crate::input;

/// A scalar function of the registry.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scalar {
    function: &'static Function,
    signature: Signature,
}

impl Scalar {
    pub(crate) fn new(function: &'static Function) -> Self {
        Self { function, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn parts(&self) -> &ScalarParts {
        match &self.function.implementation {
            Implementation::Scalar(parts) => parts,
            Implementation::Aggregate(_) => unreachable!("only scalars are registered as such"),
        }
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        input::coerce_or_leave(self.function, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok((self.parts().returns)())
    }

    /// Types and literals are known here, so that wrong ones are errors of planning.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        input::coerce(self.function, &types)?;
        let options = args.arg_fields.len() > self.function.arguments.len();
        for (argument, value) in self.function.arguments.iter().zip(args.scalar_arguments) {
            if argument.kind == ArgumentKind::Share {
                let mut checked = crate::options::Options::default();
                checked.set_share(self.function, argument.name, value.cloned())?;
            }
        }
        if let Some(Some(scalar)) = args.scalar_arguments.last().filter(|_| options) {
            crate::options::Options::from_scalar(self.function, scalar)?;
        }
        let returns = (self.parts().returns)();
        Ok(Arc::new(arrow::datatypes::Field::new(self.function.name, returns, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::from_values(self.function, &args.args)?;
        (self.parts().invoke)(&call, &args.args, args.number_rows)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(crate::docs::documentation(self.function))
    }
}

/// Calls `f` with the arrays of some arguments: of one row, of which the result is a scalar, where all of them are scalars.
pub(crate) fn by_row(
    values: &[ColumnarValue],
    rows: usize,
    f: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let scalar = values.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { rows };
    let arrays = values.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let results = f(&arrays)?;
    Ok(match scalar {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&results, 0)?),
        false => ColumnarValue::Array(results),
    })
}

/// The bytes of stored summaries.
pub(crate) fn summaries(array: &ArrayRef) -> Result<Vec<Option<&[u8]>>> {
    input::binary_values(array).ok_or_else(|| {
        internal_datafusion_err!("summaries were not coerced: {}", array.data_type())
    })
}
