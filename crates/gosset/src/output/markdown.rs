//! A result as a Markdown table.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{ResultWriter, text};
use crate::exit::Failure;

/// Writes the header with the first rows, or at the end of a result without any.
pub(super) struct MarkdownWriter<W> {
    schema: SchemaRef,
    started: bool,
    out: W,
}

impl<W: Write> MarkdownWriter<W> {
    pub(super) fn new(schema: &SchemaRef, out: W) -> Self {
        Self { schema: SchemaRef::clone(schema), started: false, out }
    }

    fn start(&mut self) -> Result<(), Failure> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let fields = self.schema.fields();
        let names: Vec<_> = fields.iter().map(|field| escaped(field.name())).collect();
        let rules: Vec<_> = fields
            .iter()
            .map(|field| if text::is_number(field.data_type()) { "---:" } else { "---" })
            .collect();
        writeln!(self.out, "| {} |", names.join(" | "))?;
        writeln!(self.out, "| {} |", rules.join(" | "))?;
        Ok(())
    }
}

impl<W: Write> ResultWriter for MarkdownWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.start()?;
        for row in 0..batch.num_rows() {
            let cells = batch
                .columns()
                .iter()
                .map(|column| Ok(escaped(&text::line(column.as_ref(), row)?)))
                .collect::<Result<Vec<_>, Failure>>()?;
            writeln!(self.out, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.start()
    }
}

/// A cell is one line, and a bar ends it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('\n', "<br>")
}
