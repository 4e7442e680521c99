//! A result as a table for people.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::{ResultWriter, text};
use crate::exit::Failure;

/// Rows of text as a table for people.
pub(crate) fn grid<const N: usize>(header: &[&str; N], rows: &[[String; N]]) -> String {
    let mut table = Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header)
        .add_rows(rows);
    format!("{table}\n")
}

/// Keeps all rows until the end, as the widths of the columns depend on them.
pub(super) struct TableWriter<W> {
    table: Table,
    out: W,
}

impl<W: Write> TableWriter<W> {
    pub(super) fn new(schema: &SchemaRef, out: W) -> Self {
        let mut table = Table::new();
        table
            .load_preset(UTF8_FULL_CONDENSED)
            // A value is never broken: a terminal wraps what is too wide, a file keeps it.
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(schema.fields().iter().map(|field| field.name()));
        for (column, field) in table.column_iter_mut().zip(schema.fields()) {
            if text::is_number(field.data_type()) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table, out }
    }
}

impl<W: Write> ResultWriter for TableWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| text::cell(column.as_ref(), row));
            self.table.add_row(cells.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{}", self.table)?)
    }
}
