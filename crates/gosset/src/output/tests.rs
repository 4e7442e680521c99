//! What each form of a result looks like.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::array::{BinaryArray, Float64Array, Int64Array, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};

use super::writer;
use crate::cli::ResultFormat;

fn written(batches: &[RecordBatch], format: ResultFormat) -> String {
    let schema = batches[0].schema();
    let mut out = Vec::new();
    let mut writer = writer(format, &schema, &mut out);
    for batch in batches {
        writer.write(batch).expect("rows are written");
    }
    writer.finish().expect("the end is written");
    drop(writer);
    String::from_utf8(out).expect("text is UTF-8")
}

/// Strings with what each form must escape, NULL, numbers that are not finite, and a struct.
fn rows() -> RecordBatch {
    let effect = Fields::from(vec![
        Field::new("estimate", DataType::Float64, true),
        Field::new("p", DataType::Float64, true),
    ]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("name", Arc::new(StringArray::from(vec![Some("a,\"b\"|c"), Some(""), None]))),
        ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(-30)]))),
        ("x", Arc::new(Float64Array::from(vec![1e300, f64::NAN, f64::INFINITY]))),
        (
            "e",
            Arc::new(StructArray::new(
                effect,
                vec![
                    Arc::new(Float64Array::from(vec![Some(0.1), None, Some(2.0)])),
                    Arc::new(Float64Array::from(vec![0.05, 0.5, 1e-15])),
                ],
                Some(vec![true, true, false].into()),
            )),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .expect("columns of one length")
}

#[test]
fn tables_show_null_and_a_line_for_each_field() {
    insta::assert_snapshot!(written(&[rows()], ResultFormat::Table), @r###"
    ┌─────────┬──────┬───────┬────────────────┐
    │ name    ┆    n ┆     x ┆ e              │
    ╞═════════╪══════╪═══════╪════════════════╡
    │ a,"b"|c ┆    1 ┆ 1e300 ┆ estimate  0.1  │
    │         ┆      ┆       ┆ p         0.05 │
    │         ┆ NULL ┆   NaN ┆ estimate  NULL │
    │         ┆      ┆       ┆ p         0.5  │
    │ NULL    ┆  -30 ┆   inf ┆ NULL           │
    └─────────┴──────┴───────┴────────────────┘
    "###);
}

#[test]
fn csv_quotes_and_writes_structs_as_json() {
    insta::assert_snapshot!(written(&[rows()], ResultFormat::Csv), @r###"
    name,n,x,e
    "a,""b""|c",1,1e300,"{""estimate"":0.1,""p"":0.05}"
    ,,NaN,"{""estimate"":null,""p"":0.5}"
    ,-30,inf,
    "###);
}

#[test]
fn ndjson_is_an_object_a_line() {
    insta::assert_snapshot!(written(&[rows()], ResultFormat::Ndjson), @r###"
    {"name":"a,\"b\"|c","n":1,"x":1.0e300,"e":{"estimate":0.1,"p":0.05}}
    {"name":"","n":null,"x":null,"e":{"estimate":null,"p":0.5}}
    {"name":null,"n":-30,"x":null,"e":null}
    "###);
}

#[test]
fn markdown_escapes_bars() {
    insta::assert_snapshot!(written(&[rows()], ResultFormat::Markdown), @r###"
    | name | n | x | e |
    | --- | ---: | ---: | --- |
    | a,"b"\|c | 1 | 1e300 | {estimate: 0.1, p: 0.05} |
    |  | NULL | NaN | {estimate: NULL, p: 0.5} |
    | NULL | -30 | inf | NULL |
    "###);
}

#[test]
fn batches_make_one_result() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
    let twice = [batch.clone(), batch];
    assert_eq!(written(&twice, ResultFormat::Csv), "n\n1\n2\n1\n2\n");
    assert_eq!(written(&twice, ResultFormat::Json), "[{\"n\":1},{\"n\":2},{\"n\":1},{\"n\":2}]\n");
    assert_eq!(written(&twice, ResultFormat::Markdown).lines().count(), 6);
}

#[test]
fn a_result_without_rows_has_its_header() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let none = [RecordBatch::new_empty(schema)];
    assert_eq!(written(&none, ResultFormat::Csv), "n\n");
    assert_eq!(written(&none, ResultFormat::Json), "[]\n");
    assert_eq!(written(&none, ResultFormat::Ndjson), "");
    assert_eq!(written(&none, ResultFormat::Markdown), "| n |\n| ---: |\n");
}

#[test]
fn long_binary_is_shortened_for_people_only() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![[0xab_u8; 40].as_slice()]));
    let batch = RecordBatch::try_from_iter([("s", bytes)]).expect("one column");
    let table = written(std::slice::from_ref(&batch), ResultFormat::Table);
    assert!(table.contains(&format!("{}… (40 bytes)", "ab".repeat(16))), "{table}");
    assert_eq!(written(&[batch], ResultFormat::Csv), format!("s\n{}\n", "ab".repeat(40)));
}
