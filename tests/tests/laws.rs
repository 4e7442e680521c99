//! Laws that hold of every aggregate of the registry, on its accumulators themselves: SQL plans choose which of them
//! meet, and no plan proves that all of them agree.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, LargeBinaryArray, RecordBatch, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{and_kleene, cast, concat, concat_batches, filter, take};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use gosset_tests::calls::{CALLS, Stream, bits_of, rows};
use gosset_tests::session::MODES;

/// One call with its arguments evaluated.
struct Case {
    sql: &'static str,
    expr: Arc<AggregateFunctionExpr>,
    args: Vec<ArrayRef>,
}

impl Case {
    async fn new(sql: &'static str) -> Self {
        let context = MODES[0].session().unwrap();
        let rows = rows();
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let query = format!("SELECT {sql} FROM t");
        let plan = context.sql(&query).await.unwrap().create_physical_plan().await.unwrap();
        let aggregate = aggregate_of(&plan).unwrap();
        let aggregate = aggregate.downcast_ref::<AggregateExec>().unwrap();
        let input = Arc::clone(aggregate.input());
        let schema = input.schema();
        let batches = collect(input, context.task_ctx()).await.unwrap();
        let batch = concat_batches(&schema, &batches).unwrap();
        let expr = Arc::clone(&aggregate.aggr_expr()[0]);
        let args = expr.expressions();
        let args = args.iter().map(|arg| {
            let value = arg.evaluate(&batch).unwrap();
            value.into_array(batch.num_rows()).unwrap()
        });
        let args = args.collect();
        Self { sql, expr, args }
    }

    async fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for (_, sql) in CALLS {
            cases.push(Self::new(sql).await);
        }
        cases
    }

    fn row(&self) -> Box<dyn Accumulator> {
        self.expr.create_accumulator().unwrap()
    }

    fn groups(&self) -> Box<dyn GroupsAccumulator> {
        self.expr.create_groups_accumulator().unwrap()
    }

    fn slice(&self, from: usize, rows: usize) -> Vec<ArrayRef> {
        self.args.iter().map(|array| array.slice(from, rows)).collect()
    }
}

fn aggregate_of(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.is::<AggregateExec>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(aggregate_of)
}

/// Some rows of a case in batches, each row with its group and whether the filter takes it.
struct Fed<'a> {
    case: &'a Case,
    groups: usize,
    /// First row and arguments of each batch.
    batches: Vec<(usize, Vec<ArrayRef>)>,
    filtered: bool,
}

impl<'a> Fed<'a> {
    fn new(case: &'a Case, rows: usize, batch: usize, groups: usize, filtered: bool) -> Self {
        let starts = (0..rows.max(1)).step_by(batch.max(1));
        let batches = starts.map(|from| (from, case.slice(from, batch.min(rows - from))));
        Self { case, groups, batches: batches.collect(), filtered }
    }

    fn group_of(&self, row: usize) -> usize {
        (row * 7 + row / 13) % self.groups
    }

    fn groups_of(&self, from: usize, args: &[ArrayRef]) -> Vec<usize> {
        (from..from + args[0].len()).map(|row| self.group_of(row)).collect()
    }

    fn filter(&self, from: usize, args: &[ArrayRef]) -> Option<BooleanArray> {
        let rows = from..from + args[0].len();
        // What is NULL may have any value: here it is true, and left out all the same.
        let keep: BooleanBuffer = rows.clone().map(|row| row % 4 > 0 || row % 6 == 0).collect();
        let valid: NullBuffer = rows.map(|row| row % 6 > 0).collect();
        self.filtered.then(|| BooleanArray::new(keep, Some(valid)))
    }

    /// The groups accumulator fed with all rows.
    fn by_groups(&self) -> Box<dyn GroupsAccumulator> {
        let mut accumulator = self.case.groups();
        for (from, args) in &self.batches {
            let (groups, filter) = (self.groups_of(*from, args), self.filter(*from, args));
            accumulator.update_batch(args, &groups, filter.as_ref(), self.groups).unwrap();
        }
        accumulator
    }

    /// A row accumulator for each group, fed with its rows.
    fn by_rows(&self) -> Vec<Box<dyn Accumulator>> {
        (0..self.groups)
            .map(|group| {
                let mut accumulator = self.case.row();
                for (from, args) in &self.batches {
                    let groups = self.groups_of(*from, args);
                    let mine: BooleanArray = groups.iter().map(|&g| Some(g == group)).collect();
                    let mine = match self.filter(*from, args) {
                        // What is NULL in a filter is left out, here as there.
                        Some(f) => and_kleene(&mine, &f).unwrap(),
                        None => mine,
                    };
                    let args: Vec<_> = args.iter().map(|a| filter(a, &mine).unwrap()).collect();
                    accumulator.update_batch(&args).unwrap();
                }
                accumulator
            })
            .collect()
    }

    /// States with the group of each, as all three producers make them.
    fn states(&self) -> Vec<(&'static str, ArrayRef, Vec<usize>)> {
        let all: Vec<usize> = (0..self.groups).collect();
        let grouped = self.by_groups().state(EmitTo::All).unwrap().pop().unwrap();
        let mut rows = self.by_rows();
        let alone = rows.iter_mut().map(|r| r.state().unwrap().pop().unwrap());
        let alone = datafusion::common::ScalarValue::iter_to_array(alone).unwrap();
        let (mut converted, mut groups) = (Vec::new(), Vec::new());
        for (from, args) in &self.batches {
            let filter = self.filter(*from, args);
            let states = self.case.groups().convert_to_state(args, filter.as_ref()).unwrap();
            groups.extend(self.groups_of(*from, args));
            converted.extend(states);
        }
        let converted: Vec<&dyn Array> = converted.iter().map(AsRef::as_ref).collect();
        let converted = concat(&converted).unwrap();
        vec![
            ("groups", grouped, all.clone()),
            ("rows", alone, all),
            ("convert_to_state", converted, groups),
        ]
    }
}

/// What crosses a shuffle: the states as a batch of Arrow IPC, in a type that a reader may hand on.
fn shipped(states: &ArrayRef, data_type: &DataType) -> ArrayRef {
    let states = cast(states, data_type).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("state", data_type.clone(), true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![states]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let mut reader = StreamReader::try_new(&bytes[..], None).unwrap();
    Arc::clone(reader.next().unwrap().unwrap().column(0))
}

fn text(array: &ArrayRef) -> Vec<String> {
    (0..array.len()).map(|r| bits_of(array, r)).collect()
}

/// The result of a row accumulator, or the text of its error.
fn evaluated(accumulator: &mut dyn Accumulator) -> Result<String, String> {
    let value = accumulator.evaluate().map_err(|e| e.to_string())?;
    Ok(bits_of(&value.to_array().unwrap(), 0))
}

/// One ungrouped query is an error where a named arm has no row; a group says so in its note.
fn agree(of_rows: &Result<String, String>, of_groups: &str, what: &str) {
    match of_rows {
        Ok(of_rows) => assert_eq!(of_rows, of_groups, "{what}"),
        Err(error) => {
            assert!(error.contains("no row has the arm"), "{what}: {error}");
            assert!(of_groups.contains("no row has the arm"), "{what}: {of_groups}");
        }
    }
}

fn shapes() -> impl Iterator<Item = (usize, usize, usize, bool)> {
    [(0, 10, 1), (0, 10, 3), (1, 10, 1), (5, 2, 2), (300, 41, 4), (3000, 3000, 40)]
        .into_iter()
        .flat_map(|(rows, batch, groups)| [false, true].map(|f| (rows, batch, groups, f)))
}

#[tokio::test]
async fn every_producer_of_states_meets_every_consumer() {
    for case in Case::all().await {
        for (rows, batch, groups, filtered) in shapes() {
            let fed = Fed::new(&case, rows, batch, groups, filtered);
            let expected_states = fed.by_groups().state(EmitTo::All).unwrap().pop().unwrap();
            let expected = text(&fed.by_groups().evaluate(EmitTo::All).unwrap());
            let what = format!("{} over {rows} rows, filtered: {filtered}", case.sql);
            for (group, mut accumulator) in fed.by_rows().into_iter().enumerate() {
                agree(&evaluated(accumulator.as_mut()), &expected[group], &what);
            }
            let types = [DataType::LargeBinary, DataType::BinaryView, DataType::Binary];
            for ((producer, states, of_groups), data_type) in fed.states().into_iter().zip(types) {
                let what = format!("{what}, states by {producer}");
                let states = shipped(&states, &data_type);
                let mut consumer = case.groups();
                consumer.merge_batch(&[Arc::clone(&states)], &of_groups, groups).unwrap();
                let merged = consumer.state(EmitTo::All).unwrap().pop().unwrap();
                assert_eq!(text(&merged), text(&expected_states), "{what}");
                let mut consumer = case.groups();
                consumer.merge_batch(&[Arc::clone(&states)], &of_groups, groups).unwrap();
                assert_eq!(text(&consumer.evaluate(EmitTo::All).unwrap()), expected, "{what}");
                for (group, expected) in expected.iter().enumerate() {
                    let mine = (0..of_groups.len() as u32)
                        .filter(|&r| of_groups[r as usize] == group)
                        .collect::<UInt32Array>();
                    let mut consumer = case.row();
                    consumer.merge_batch(&[take(&states, &mine, None).unwrap()]).unwrap();
                    let state = consumer.state().unwrap().pop().unwrap().to_array().unwrap();
                    assert_eq!(text(&state), [bits_of(&expected_states, group)], "{what}");
                    let mut consumer = case.row();
                    consumer.merge_batch(&[take(&states, &mine, None).unwrap()]).unwrap();
                    agree(&evaluated(consumer.as_mut()), expected, &what);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_empty_state_is_the_identity() {
    for case in Case::all().await {
        let fed = Fed::new(&case, 300, 300, 1, false);
        let empty = Fed::new(&case, 0, 1, 1, false);
        let filled = fed.by_groups().state(EmitTo::All).unwrap().pop().unwrap();
        for (producer, empty, _) in empty.states() {
            let pairs = [[Arc::clone(&empty), Arc::clone(&filled)], [Arc::clone(&filled), empty]];
            for states in pairs {
                let states = concat(&[states[0].as_ref(), states[1].as_ref()]).unwrap();
                let mut consumer = case.groups();
                consumer.merge_batch(&[Arc::clone(&states)], &vec![0; states.len()], 1).unwrap();
                let merged = consumer.state(EmitTo::All).unwrap().pop().unwrap();
                assert_eq!(text(&merged), text(&filled), "{} by {producer}", case.sql);
                let mut consumer = case.row();
                consumer.merge_batch(&[states]).unwrap();
                let merged = consumer.state().unwrap().pop().unwrap().to_array().unwrap();
                assert_eq!(text(&merged), text(&filled), "{} by {producer}", case.sql);
            }
        }
    }
}

#[tokio::test]
async fn groups_that_are_emitted_first_leave_the_others_as_they_are() {
    for case in Case::all().await {
        let fed = Fed::new(&case, 300, 50, 5, false);
        let whole = text(&fed.by_groups().evaluate(EmitTo::All).unwrap());
        let states = text(&fed.by_groups().state(EmitTo::All).unwrap()[0]);
        for first in 0..=5 {
            let mut accumulator = fed.by_groups();
            let mut found = text(&accumulator.evaluate(EmitTo::First(first)).unwrap());
            found.extend(text(&accumulator.evaluate(EmitTo::All).unwrap()));
            assert_eq!(found, whole, "{}", case.sql);
            let mut accumulator = fed.by_groups();
            let mut found = text(&accumulator.state(EmitTo::First(first)).unwrap()[0]);
            found.extend(text(&accumulator.state(EmitTo::All).unwrap()[0]));
            assert_eq!(found, states, "{}", case.sql);
        }
        // The places of groups that left are taken by new ones, which start empty.
        let mut accumulator = fed.by_groups();
        accumulator.evaluate(EmitTo::First(3)).unwrap();
        let args = case.slice(0, 300);
        let groups: Vec<usize> = (0..300).map(|row| 2 + fed.group_of(row)).collect();
        accumulator.update_batch(&args, &groups, None, 7).unwrap();
        assert!(accumulator.size() > 0);
        let found = text(&accumulator.evaluate(EmitTo::All).unwrap());
        assert_eq!(found, [&whole[3..], &whole[..]].concat(), "{}", case.sql);
    }
}

/// What is done with one state that comes from elsewhere; whether it was taken.
fn survives(case: &Case, own: &[u8], state: &[u8]) -> bool {
    let taken = catch_unwind(AssertUnwindSafe(|| {
        let states: ArrayRef = Arc::new(LargeBinaryArray::from(vec![own, state]));
        let mut groups = case.groups();
        let merged = groups.merge_batch(&[states.slice(1, 1)], &[0], 1);
        if merged.is_ok() {
            let _ = groups.evaluate(EmitTo::All);
        }
        let mut row = case.row();
        if row.merge_batch(&[states]).is_ok() {
            let _ = (row.state(), row.evaluate(), row.size());
        }
        merged.is_ok()
    }));
    taken.unwrap_or_else(|_| panic!("{}: a damaged state panics: {state:?}", case.sql))
}

/// The most address space that this process has ever had, where the system tells.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    peak.and_then(|text| text.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) << 10
}

#[tokio::test]
async fn damaged_states_are_errors_and_never_panics() {
    const MUTATIONS: usize = 1500;
    let cases = Case::all().await;
    let before = peak_bytes();
    let mut s = Stream(99);
    for case in &cases {
        let fed = Fed::new(case, 25, 25, 1, false);
        let state = fed.by_groups().state(EmitTo::All).unwrap().pop().unwrap();
        let state = state.as_binary::<i64>().value(0);
        assert!(survives(case, state, state), "{}", case.sql);
        // The empty state of an aggregate that has not seen its columns yet has no bytes.
        for end in 1..state.len() {
            assert!(!survives(case, state, &state[..end]), "{}: {end} bytes", case.sql);
        }
        for _ in 0..MUTATIONS {
            let mut mutated = state.to_vec();
            for _ in 0..=s.draw() % 4 {
                let at = (s.draw() % mutated.len() as u64) as usize;
                match s.draw() % 5 {
                    0 => mutated[at] = s.draw() as u8,
                    1 => mutated[at] ^= 1 << (s.draw() % 8),
                    2 => mutated[at] = 0xff,
                    3 => drop(mutated.splice(at..=at, [&[0xff; 9][..], &[1]].concat())),
                    _ => drop(mutated.splice(at..at, [s.draw() as u8])),
                }
            }
            survives(case, state, &mutated);
        }
    }
    let grown = peak_bytes() - before;
    assert!(grown < 1 << 30, "damaged states made the process grow by {} MiB", grown >> 20);
}

/// An accumulator that has taken rows owns up to them: the memory pool sees nothing else.
#[tokio::test]
async fn sizes_grow_with_groups() {
    for case in Case::all().await {
        let few = Fed::new(&case, 300, 300, 1, false).by_groups().size();
        let many = Fed::new(&case, 3000, 300, 1000, false).by_groups().size();
        assert!(many > few + 1000 * 16, "{}: {few} and {many} bytes", case.sql);
    }
}
