//! `srm`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int64Builder, ListArray, StringViewBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use gosset_stats::compare::{ArmCount, srm};
use gosset_stats::summary::Counts;

use crate::call::Call;
use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::input::failed;
use crate::options::{OptionSpec, OptionValues};
use crate::summarize::{CountsStates, counts};

pub(super) static SRM: Function = Function {
    name: "srm",
    section: Section::Checks,
    summary: "Sample-ratio mismatch: whether the arms have the sizes that the assignment should give.",
    description: "\
Pearson's chi-squared test of the numbers of rows of the arms against the expected split. The rows are units of randomisation. A small p-value (0.001 is a common threshold) means that \
the assignment or the logging is broken, and that no effect of the experiment can be trusted.

```text
statistic = Σ_a (n_a − N·w_a)² / (N·w_a),   w_a the expected shares
df        = number of arms − 1
```

Without `expected` the arms found should have equal sizes. Arms that `expected` names and nobody has count as zero.

| input | result |
| --- | --- |
| `arm` NULL | the row is left out and counted in `n_dropped` |
| an arm that `expected` does not name | an error that names it |
| fewer than two arms, or no rows | NULL |",
    returns: "a struct: statistic, df, p_value DOUBLE; n, n_dropped BIGINT; arms, a list of structs (arm, observed, expected)",
    arguments: &[Argument {
        name: "arm",
        kind: ArgumentKind::Label,
        doc: "the arm of the unit: a string, an integer or a boolean",
    }],
    options: &[&[OptionSpec {
        name: "expected",
        values: OptionValues::Weights,
        default: "",
        doc: "the expected split, in any unit: `{a: 1, b: 1}`; equal sizes where it is not given",
    }]],
    example: Example {
        sql: "\
SELECT s['statistic'] AS statistic, s['p_value'] AS p_value
FROM (
  SELECT srm(CASE WHEN i % 100 < 48 THEN 'a' ELSE 'b' END, {expected: {a: 1, b: 1}}) AS s
  FROM generate_series(1, 10000) AS t (i)
)",
    },
    references: &[
        "Fabijan, A., et al. (2019). Diagnosing sample ratio mismatch in online controlled experiments. KDD 2019, 2156–2164. doi:10.1145/3292500.3330722",
    ],
    value_version: 1,
    implementation: counts(|call| Ok(Box::new(CountsStates::new(call, finish))), srm_type),
};

fn arm_fields() -> Fields {
    Fields::from(vec![
        Field::new("arm", DataType::Utf8View, false),
        Field::new("observed", DataType::Int64, false),
        Field::new("expected", DataType::Float64, true),
    ])
}

fn srm_fields() -> Fields {
    let arms = Field::new_list_field(DataType::Struct(arm_fields()), false);
    Fields::from(vec![
        Field::new("statistic", DataType::Float64, true),
        Field::new("df", DataType::Float64, true),
        Field::new("p_value", DataType::Float64, true),
        Field::new("n", DataType::Int64, false),
        Field::new("n_dropped", DataType::Int64, false),
        Field::new("arms", DataType::List(Arc::new(arms)), false),
    ])
}

fn srm_type() -> DataType {
    DataType::Struct(srm_fields())
}

fn finish(call: &Call, groups: &[Counts]) -> datafusion::error::Result<ArrayRef> {
    let expected = call.options.weights("expected");
    let mut doubles: [Float64Builder; 3] = std::array::from_fn(|_| Float64Builder::new());
    let (mut n, mut dropped) = (Int64Builder::new(), Int64Builder::new());
    let (mut names, mut observed) = (StringViewBuilder::new(), Int64Builder::new());
    let mut shares = Float64Builder::new();
    let mut lengths = Vec::with_capacity(groups.len());
    for counts in groups {
        let ratio = srm(counts, expected).map_err(|e| failed(call.function, e))?;
        let values = [ratio.statistic, ratio.df.map(|df| df as f64), ratio.p_value];
        doubles.iter_mut().zip(values).for_each(|(b, v)| b.append_option(v));
        n.append_value(ratio.n as i64);
        dropped.append_value(counts.dropped() as i64);
        lengths.push(ratio.arms.len());
        for ArmCount { arm, observed: count, expected: share } in ratio.arms {
            names.append_value(arm);
            observed.append_value(count as i64);
            shares.append_value(share);
        }
    }
    let arms = StructArray::new(
        arm_fields(),
        vec![Arc::new(names.finish()), Arc::new(observed.finish()), Arc::new(shares.finish())],
        None,
    );
    let item = Field::new_list_field(DataType::Struct(arm_fields()), false);
    let arms =
        ListArray::new(Arc::new(item), OffsetBuffer::from_lengths(lengths), Arc::new(arms), None);
    let [statistic, df, p_value] = doubles.each_mut().map(Float64Builder::finish);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(statistic),
        Arc::new(df),
        Arc::new(p_value),
        Arc::new(n.finish()),
        Arc::new(dropped.finish()),
        Arc::new(arms),
    ];
    Ok(Arc::new(StructArray::new(srm_fields(), columns, None)))
}
