//! The rows of a result table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use gosset_engine::{Engine, EngineOptions};

/// A cell of a row.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Text(String),
    Number(f64),
    Integer(i64),
}

/// A row by the names of its columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(BTreeMap<String, Cell>);

/// Rows in the order of their contents.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Reads a table as of now.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(path: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let batches = runtime.block_on(async {
            let engine = Engine::new(EngineOptions::new()).expect("an engine");
            let rows = engine.read(&path.display().to_string()).await.expect("a table");
            rows.collect().await.expect("rows")
        });
        let mut rows = Vec::new();
        for batch in &batches {
            for at in 0..batch.num_rows() {
                let schema = batch.schema();
                let names = schema.fields().iter().map(|field| field.name().clone());
                let cells = batch.columns().iter().map(|column| cell(column.as_ref(), at));
                rows.push(Row(names.zip(cells).collect()));
            }
        }
        rows.sort_by_cached_key(Row::bits);
        Self { rows }
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows whose columns have these texts; the empty one is NULL.
    pub fn of(&self, keys: &[(&str, &str)]) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.is(keys)).collect()
    }

    /// The one row whose columns have these texts; the empty one is NULL.
    ///
    /// # Panics
    /// If there is none, or several.
    #[track_caller]
    pub fn only(&self, keys: &[(&str, &str)]) -> &Row {
        let found = self.of(keys);
        assert_eq!(found.len(), 1, "rows with {keys:?} of {:#?}", self.rows);
        found[0]
    }

    /// Every row, to the bit.
    pub fn bits(&self) -> Vec<String> {
        self.rows.iter().map(Row::bits).collect()
    }
}

fn cell(column: &dyn Array, at: usize) -> Cell {
    if column.is_null(at) {
        return Cell::Null;
    }
    match column.data_type() {
        DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(at)),
        DataType::Int64 => Cell::Integer(column.as_primitive::<Int64Type>().value(at)),
        DataType::Dictionary(_, values) => {
            let plain = cast(column, values).expect("a dictionary has values");
            cell(plain.as_ref(), at)
        }
        _ => Cell::Text(array_value_to_string(column, at).expect("a text")),
    }
}

impl Row {
    fn cell(&self, name: &str) -> &Cell {
        self.0.get(name).unwrap_or_else(|| panic!("the column {name} of {self:?}"))
    }

    /// A text; none where it is NULL.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.cell(name) {
            Cell::Text(text) => Some(text),
            Cell::Null => None,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// A number or a count; none where it is NULL.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.cell(name) {
            Cell::Number(number) => Some(*number),
            Cell::Integer(count) => Some(*count as f64),
            Cell::Null => None,
            Cell::Text(text) => panic!("{name} is {text}"),
        }
    }

    /// A whole number, to its last digit; none where it is NULL.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.cell(name) {
            Cell::Integer(integer) => Some(*integer),
            Cell::Null => None,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// What a cell is as text; nothing where it is NULL.
    pub fn shown(&self, name: &str) -> String {
        match self.cell(name) {
            Cell::Null => String::new(),
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => number.to_string(),
            Cell::Integer(count) => count.to_string(),
        }
    }

    fn is(&self, keys: &[(&str, &str)]) -> bool {
        keys.iter().all(|(name, text)| self.shown(name) == *text)
    }

    /// The row as a text that differs where a bit differs.
    pub fn bits(&self) -> String {
        let mut text = String::new();
        for (name, cell) in &self.0 {
            let shown = match cell {
                Cell::Null => "NULL".into(),
                Cell::Text(text) => format!("{text:?}"),
                Cell::Number(number) => format!("{:016x}", number.to_bits()),
                Cell::Integer(count) => count.to_string(),
            };
            write!(text, "{name}={shown} ").expect("a string takes it");
        }
        text
    }

    /// The columns of the row that another row has too, to the bit.
    pub fn common_bits(&self, other: &Self) -> String {
        let common = self.0.iter().filter(|(name, _)| other.0.contains_key(*name));
        Self(common.map(|(name, cell)| (name.clone(), cell.clone())).collect()).bits()
    }
}
