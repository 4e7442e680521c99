//! Effects as an Arrow struct.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int64Builder, ListArray, NullBufferBuilder, StringViewBuilder,
    StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use gosset_stats::Effect;
use gosset_stats::compare::Banded;

const DOUBLES: [&str; 14] = [
    "estimate",
    "std_error",
    "statistic",
    "df",
    "p_value",
    "ci_lower",
    "ci_upper",
    "confidence",
    "relative",
    "relative_std_error",
    "relative_ci_lower",
    "relative_ci_upper",
    "mean_control",
    "mean_treatment",
];
const BAND: [&str; 3] = ["band_lower", "band_upper", "p_adjusted"];
const COUNTS: [&str; 5] =
    ["n_control", "n_treatment", "rows_control", "rows_treatment", "n_dropped"];

/// The fields of the struct that every two-arm function returns.
pub fn effect_fields() -> Fields {
    let doubles = DOUBLES.iter().map(|name| Field::new(*name, DataType::Float64, true));
    let counts = COUNTS.iter().map(|name| Field::new(*name, DataType::Int64, true));
    let rest = [
        Field::new("variance_reduction", DataType::Float64, true),
        Field::new("method", DataType::Utf8View, true),
        Field::new("note", DataType::Utf8View, true),
    ];
    doubles.chain(counts).chain(rest).collect()
}

pub(crate) fn effect_type() -> DataType {
    DataType::Struct(effect_fields())
}

/// A list of structs, for functions with several results in a group.
pub(crate) fn list_type(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true)))
}

/// Lists of structs: the columns of all of them, and how many structs each list has.
pub(crate) fn lists(fields: Fields, columns: Vec<ArrayRef>, lengths: Vec<usize>) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
    let items = StructArray::new(fields, columns, None);
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), Arc::new(items), None))
}

/// The type of lists of effects with a simultaneous band, each with a label: what the effect is of.
pub(crate) fn banded_type(label: Field) -> DataType {
    list_type(banded_fields(label))
}

fn banded_fields(label: Field) -> Fields {
    let band = BAND.iter().map(|name| Field::new(*name, DataType::Float64, true));
    let effect = effect_fields();
    let effect = effect.iter().map(|field| Field::clone(field));
    [label].into_iter().chain(effect).chain(band).collect()
}

/// Lists of effects with their labels: all of them, and how many each list has.
pub(crate) fn banded_lists(
    label: Field,
    labels: ArrayRef,
    effects: Vec<Banded>,
    lengths: Vec<usize>,
) -> ArrayRef {
    let mut band = BAND.map(|_| Float64Builder::new());
    let mut plain = Vec::with_capacity(effects.len());
    for Banded { effect, band: ends, p_adjusted } in effects {
        let (lower, upper) = ends.unzip();
        let values = [lower, upper, p_adjusted];
        band.iter_mut().zip(values).for_each(|(column, value)| column.append_option(value));
        plain.push(Some(effect));
    }
    let (_, effects, _) = effects_to_struct(&plain).into_parts();
    let band = band.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
    let columns = [labels].into_iter().chain(effects).chain(band).collect();
    lists(banded_fields(label), columns, lengths)
}

/// Effects as an array of structs; `None` is a NULL struct.
pub fn effects_to_struct(effects: &[Option<Effect>]) -> StructArray {
    let mut doubles: Vec<Float64Builder> = DOUBLES.iter().map(|_| Float64Builder::new()).collect();
    let mut counts: Vec<Int64Builder> = COUNTS.iter().map(|_| Int64Builder::new()).collect();
    let mut variance_reduction = Float64Builder::new();
    let mut method = StringViewBuilder::new();
    let mut note = StringViewBuilder::new();
    let mut nulls = NullBufferBuilder::new(effects.len());
    for effect in effects {
        nulls.append(effect.is_some());
        let e = effect.as_ref();
        let values = e.map_or([None; 14], |e| {
            [
                e.estimate,
                e.std_error,
                e.statistic,
                e.df,
                e.p_value,
                e.ci_lower,
                e.ci_upper,
                Some(e.confidence),
                e.relative,
                e.relative_std_error,
                e.relative_ci_lower,
                e.relative_ci_upper,
                e.mean_control,
                e.mean_treatment,
            ]
        });
        doubles.iter_mut().zip(values).for_each(|(b, v)| b.append_option(v));
        let values = e.map_or([None; 5], |e| {
            [
                e.n_control,
                e.n_treatment,
                Some(e.rows_control),
                Some(e.rows_treatment),
                Some(e.n_dropped),
            ]
        });
        counts.iter_mut().zip(values).for_each(|(b, v)| b.append_option(v.map(|n| n as i64)));
        variance_reduction.append_option(e.and_then(|e| e.variance_reduction));
        method.append_option(e.map(|e| e.method.as_str()));
        note.append_option(e.and_then(|e| e.note.as_deref()));
    }
    let columns: Vec<ArrayRef> = doubles
        .iter_mut()
        .map(|b| Arc::new(b.finish()) as ArrayRef)
        .chain(counts.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef))
        .chain([
            Arc::new(variance_reduction.finish()) as ArrayRef,
            Arc::new(method.finish()),
            Arc::new(note.finish()),
        ])
        .collect();
    StructArray::new(effect_fields(), columns, nulls.finish())
}
