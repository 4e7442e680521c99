//! `describe_summary`.

use std::sync::Arc;

use arrow::array::StringViewBuilder;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use gosset_stats::compare::histogram_quantile;
use gosset_stats::summary::{
    AnySummary, BinnedMoments, Buckets, Gram, Histogram, Moments, RegressorKind, Replicates,
    StratifiedMoments,
};
use serde_json::{Value, json};

use crate::call::Call;
use crate::function::{
    Argument, ArgumentKind, Example, Function, Implementation, ScalarParts, Section,
};
use crate::input::failed;
use crate::scalar::{by_row, summaries};

pub(super) static DESCRIBE_SUMMARY: Function = Function {
    name: "describe_summary",
    section: Section::Summaries,
    summary: "What a stored summary holds, as JSON.",
    description: "\
Kind, number of rows, columns and, for `moments`, means and variances, which `stratified_moments` has by stratum; for `buckets`, the number of buckets, of units where it is known, and the totals; for `replicates`, how units are resampled, and the totals; for `histogram`, the bins and the median; for `binned_moments`, the bins; for `gram`, the regressors with the levels of factors, and how many distinct rows are kept; for `srm`'s counts, the arms.

| input | result |
| --- | --- |
| NULL | NULL |
| bytes that are no summary | an error |",
    returns: "VARCHAR, a JSON object",
    arguments: &[Argument {
        name: "summary",
        kind: ArgumentKind::Summary,
        doc: "a stored summary",
    }],
    options: &[],
    example: Example {
        sql: "\
SELECT describe_summary(moments(x)) AS summary
FROM (VALUES (1.0), (2.0), (3.0), (4.0)) AS t (x)",
    },
    references: &[],
    value_version: 1,
    implementation: Implementation::Scalar(ScalarParts { invoke, returns: || DataType::Utf8View }),
};

fn invoke(call: &Call, values: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
    by_row(&values[..1], rows, |arrays| {
        let mut builder = StringViewBuilder::new();
        for bytes in summaries(&arrays[0])? {
            let summary =
                bytes.map(AnySummary::decode).transpose().map_err(|e| failed(call.function, e))?;
            builder.append_option(summary.as_ref().map(describe));
        }
        Ok(Arc::new(builder.finish()))
    })
}

fn describe(summary: &AnySummary) -> String {
    let mut json = match summary {
        AnySummary::Moments(moments) => describe_moments(moments),
        AnySummary::Buckets(buckets) => describe_buckets(buckets),
        AnySummary::Replicates(replicates) => describe_replicates(replicates),
        AnySummary::Histogram(histogram) => describe_histogram(histogram),
        AnySummary::BinnedMoments(moments) => describe_binned(moments),
        AnySummary::Gram(gram) => describe_gram(gram),
        AnySummary::StratifiedMoments(moments) => describe_stratified(moments),
        AnySummary::Counts(counts) => {
            json!({"n_dropped": counts.dropped(), "arms": counts.arms()})
        }
        AnySummary::Totals(totals) => json!({"n": totals.n, "sum": number(totals.sum())}),
        other => json!({"bytes": other.encode().len()}),
    };
    json["kind"] = summary.kind().name().into();
    json.to_string()
}

fn describe_moments(moments: &Moments) -> Value {
    let outcomes = moments.columns().outcomes();
    let columns: Vec<Value> = (0..moments.width())
        .map(|i| {
            json!({
                "name": moments.name(i),
                "role": if i < outcomes { "outcome" } else { "covariate" },
                "mean": number((moments.n() > 0).then(|| moments.mean(i))),
                "variance": number((moments.n() > 1).then(|| moments.covariance(i, i))),
            })
        })
        .collect();
    json!({"n": moments.n(), "n_dropped": moments.dropped(), "columns": columns})
}

fn describe_stratified(moments: &StratifiedMoments) -> Value {
    let stratum = |(label, of): (&Option<String>, &Moments)| {
        let mut json = describe_moments(of);
        json["stratum"] = label.clone().into();
        if let Some(json) = json.as_object_mut() {
            json.remove("n_dropped");
        }
        json
    };
    let strata: Vec<Value> = moments.strata().iter().map(stratum).collect();
    json!({"n": moments.n(), "n_dropped": moments.dropped(), "strata": strata})
}

fn describe_buckets(buckets: &Buckets) -> Value {
    let totals = buckets.sum();
    let columns: Vec<Value> = buckets
        .columns()
        .names()
        .iter()
        .zip(&totals.sums)
        .map(|(name, sum)| json!({"name": name, "total": number(Some(sum.to_f64()))}))
        .collect();
    json!({
        "rows": buckets.rows(),
        "n_dropped": buckets.dropped(),
        "buckets": buckets.buckets(),
        "units": buckets.units(),
        "columns": columns,
    })
}

fn describe_replicates(replicates: &Replicates) -> Value {
    let totals = replicates.sum();
    let columns: Vec<Value> = replicates
        .columns()
        .names()
        .iter()
        .zip(&totals.sums)
        .map(|(name, sum)| json!({"name": name, "total": number(Some(sum.to_f64()))}))
        .collect();
    let resampling = replicates.resampling();
    json!({
        "rows": replicates.rows(),
        "n_dropped": replicates.dropped(),
        "replicates": resampling.replicates,
        "method": resampling.law.name(),
        "seed": resampling.seed,
        "crossed": resampling.crossed,
        "buckets": resampling.buckets,
        "units": replicates.units(),
        "columns": columns,
    })
}

fn describe_histogram(histogram: &Histogram) -> Value {
    let quantile = |q: f64| number(histogram_quantile(histogram, q).ok().flatten());
    let bins = histogram.bins();
    let resampling = histogram.resampling();
    json!({
        "rows": histogram.rows(),
        "n_dropped": histogram.dropped(),
        "not_finite": histogram.not_finite(),
        "bins": bins.len(),
        "relative_error": histogram.relative_error(),
        "min": number(bins.first().map(|bin| bin.min)),
        "median": quantile(0.5),
        "max": number(bins.last().map(|bin| bin.max)),
        "replicates": resampling.map(|r| r.replicates),
        "method": resampling.map(|r| r.law.name()),
        "seed": resampling.map(|r| r.seed),
        "column": histogram.columns().names()[0],
    })
}

fn describe_binned(moments: &BinnedMoments) -> Value {
    let bins = moments.bins();
    json!({
        "rows": moments.rows(),
        "n_dropped": moments.dropped(),
        "not_finite": moments.not_finite(),
        "bins": bins.len(),
        "relative_error": moments.relative_error(),
        "min": number(bins.first().map(|bin| bin.min)),
        "max": number(bins.last().map(|bin| bin.max)),
        "column": moments.columns().names()[0],
    })
}

fn describe_gram(gram: &Gram) -> Value {
    let columns = gram.columns();
    let mut labels = gram.labels().iter();
    let regressors: Vec<Value> = columns
        .regressors()
        .iter()
        .map(|regressor| match regressor.kind {
            RegressorKind::Number => json!({"name": regressor.name, "kind": "number"}),
            RegressorKind::Factor => {
                json!({"name": regressor.name, "kind": "factor", "levels": labels.next()})
            }
        })
        .collect();
    json!({
        "n": gram.n(),
        "n_dropped": gram.dropped(),
        "not_finite": gram.not_finite(),
        "outcomes": columns.outcomes(),
        "regressors": regressors,
        "weighted": columns.weighted(),
        "clustered_by": columns.clusters(),
        "max_rows": gram.max_rows(),
        "distinct_rows": gram.distinct_rows(),
        "cells": gram.len(),
    })
}

/// A number of JSON, which has no NaN and no infinity: those are strings.
fn number(value: Option<f64>) -> Value {
    match value {
        Some(x) if !x.is_finite() => x.to_string().into(),
        other => other.into(),
    }
}
