//! Linear models as Arrow structs.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Float64Builder, Int64Array, ListArray, ListBuilder, NullBufferBuilder,
    StringViewArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use gosset_stats::Summary;
use gosset_stats::linear::{ConditionalEffect, Contrast, Estimate, LinearFit, LinearOptions, Vcov};
use gosset_stats::summary::Gram;

use crate::call::Call;
use crate::effect::{list_type, lists};
use crate::input::failed;
use crate::scalar::{by_row, summaries};

/// What the options of a call ask of a linear model.
pub(crate) fn options_of(call: &Call) -> LinearOptions {
    let (options, default) = (&call.options, LinearOptions::default());
    LinearOptions {
        outcome: options.text("outcome").map(str::to_owned),
        intercept: options.flag("intercept").unwrap_or(default.intercept),
        interactions: options.names("interactions").to_vec(),
        reference: options.labels("reference").cloned().unwrap_or_default(),
        exclude: Vec::new(),
        vcov: Vcov::ALL.into_iter().find(|vcov| Some(vcov.name()) == options.word("vcov")),
        confidence: options.number("confidence").unwrap_or(default.confidence),
    }
}

/// The results of a scalar function of stored grams; NULL gives NULL.
pub(crate) fn of_stored(
    call: &Call,
    values: &[ColumnarValue],
    rows: usize,
    results: impl Fn(Vec<Option<Gram>>) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    by_row(&values[..1], rows, |arrays| {
        let grams = summaries(&arrays[0])?
            .into_iter()
            .map(|bytes| bytes.map(Gram::decode).transpose().map_err(|e| failed(call.function, e)))
            .collect::<Result<Vec<_>>>()?;
        results(grams)
    })
}

fn double(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn count(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8View, true)
}

fn estimate_fields() -> impl Iterator<Item = Field> {
    ["estimate", "std_error", "statistic", "df", "p_value", "ci_lower", "ci_upper"]
        .into_iter()
        .map(double)
}

fn doubles(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

fn counts(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.map(|n| n.map(|n| n as i64)).collect::<Int64Array>())
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringViewArray>())
}

fn estimates<'a>(of: impl Iterator<Item = Option<&'a Estimate>> + Clone) -> Vec<ArrayRef> {
    let fields: [fn(&Estimate) -> Option<f64>; 7] = [
        |e| e.estimate,
        |e| e.std_error,
        |e| e.statistic,
        |e| e.df,
        |e| e.p_value,
        |e| e.ci_lower,
        |e| e.ci_upper,
    ];
    fields.into_iter().map(|field| doubles(of.clone().map(|e| e.and_then(field)))).collect()
}

fn structs<T>(fields: Fields, of: &[Option<T>], columns: Vec<ArrayRef>) -> ArrayRef {
    let mut nulls = NullBufferBuilder::new(of.len());
    of.iter().for_each(|one| nulls.append(one.is_some()));
    Arc::new(StructArray::new(fields, columns, nulls.finish()))
}

fn coefficient_fields() -> Fields {
    [text("term")].into_iter().chain(estimate_fields()).collect()
}

fn matrix_type() -> DataType {
    let row = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
    DataType::List(Arc::new(Field::new_list_field(row, true)))
}

fn fit_fields() -> Fields {
    Fields::from(vec![
        Field::new("coefficients", list_type(coefficient_fields()), true),
        Field::new("vcov", matrix_type(), true),
        count("n"),
        count("n_dropped"),
        count("clusters"),
        count("df_residual"),
        double("r_squared"),
        double("adjusted_r_squared"),
        double("residual_std_error"),
        double("confidence"),
        text("method"),
        text("note"),
    ])
}

/// The type of a linear model.
pub(crate) fn fit_type() -> DataType {
    DataType::Struct(fit_fields())
}

/// Linear models as structs.
pub(crate) fn fits(of: &[Option<LinearFit>]) -> ArrayRef {
    let fits = || of.iter().map(Option::as_ref);
    let all = fits().flatten().flat_map(|fit| &fit.coefficients);
    let terms = texts(all.clone().map(|c| Some(c.term.as_str())));
    let columns = [terms].into_iter().chain(estimates(all.map(|c| Some(&c.estimate)))).collect();
    let lengths = fits().map(|fit| fit.map_or(0, |fit| fit.coefficients.len())).collect();
    let coefficients = lists(coefficient_fields(), columns, lengths);
    let columns = vec![
        coefficients,
        Arc::new(matrices(fits().map(|fit| fit.map(|fit| fit.vcov.as_slice())))),
        counts(fits().map(|fit| Some(fit?.n))),
        counts(fits().map(|fit| Some(fit?.n_dropped))),
        counts(fits().map(|fit| fit?.clusters)),
        counts(fits().map(|fit| fit?.df_residual)),
        doubles(fits().map(|fit| fit?.r_squared)),
        doubles(fits().map(|fit| fit?.adjusted_r_squared)),
        doubles(fits().map(|fit| fit?.residual_std_error)),
        doubles(fits().map(|fit| Some(fit?.confidence))),
        texts(fits().map(|fit| Some(fit?.method.as_str()))),
        texts(fits().map(|fit| fit?.note.as_deref())),
    ];
    structs(fit_fields(), of, columns)
}

fn matrices<'a>(of: impl Iterator<Item = Option<&'a [Vec<Option<f64>>]>>) -> ListArray {
    let mut builder = ListBuilder::new(ListBuilder::new(Float64Builder::new()));
    for matrix in of {
        for row in matrix.unwrap_or_default() {
            row.iter().for_each(|&x| builder.values().values().append_option(x));
            builder.values().append(true);
        }
        builder.append(true);
    }
    builder.finish()
}

fn contrast_fields() -> Fields {
    estimate_fields()
        .chain([count("n"), double("confidence"), text("method"), text("note")])
        .collect()
}

/// The type of a contrast.
pub(crate) fn contrast_type() -> DataType {
    DataType::Struct(contrast_fields())
}

/// Contrasts as structs.
pub(crate) fn contrasts(of: &[Option<Contrast>]) -> ArrayRef {
    let all = || of.iter().map(Option::as_ref);
    let mut columns = estimates(all().map(|c| c.map(|c| &c.estimate)));
    columns.extend([
        counts(all().map(|c| Some(c?.n))),
        doubles(all().map(|c| Some(c?.confidence))),
        texts(all().map(|c| Some(c?.method.as_str()))),
        texts(all().map(|c| c?.note.as_deref())),
    ]);
    structs(contrast_fields(), of, columns)
}

fn conditional_fields() -> Fields {
    [text("segment"), text("level"), count("n")]
        .into_iter()
        .chain(estimate_fields())
        .chain([double("confidence"), text("method"), text("note")])
        .collect()
}

/// The type of the effects of segments.
pub(crate) fn conditional_type() -> DataType {
    list_type(conditional_fields())
}

/// The effects of segments as lists of structs.
pub(crate) fn conditionals(of: &[Option<Vec<ConditionalEffect>>]) -> ArrayRef {
    let all = || of.iter().flatten().flatten();
    let mut columns = vec![
        texts(all().map(|e| e.segment.as_deref())),
        texts(all().map(|e| e.level.as_deref())),
        counts(all().map(|e| Some(e.n))),
    ];
    columns.extend(estimates(all().map(|e| Some(&e.estimate))));
    columns.extend([
        doubles(all().map(|e| Some(e.confidence))),
        texts(all().map(|e| Some(e.method.as_str()))),
        texts(all().map(|e| e.note.as_deref())),
    ]);
    let lengths = of.iter().map(|effects| effects.as_ref().map_or(0, Vec::len)).collect();
    lists(conditional_fields(), columns, lengths)
}
