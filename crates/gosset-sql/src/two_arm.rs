//! Two-arm functions: two summaries and a comparison, and nothing of their own.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_empty_array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use gosset_stats::compare::Banded;
use gosset_stats::summary::{
    BinnedMoments, BinnedTable, BucketTable, Buckets, Columns, Gram, GramColumns, GramTable,
    Histogram, HistogramTable, Moments, MomentsTable, Reader, Regressor, RegressorKind, Replicates,
    ReplicatesTable, StratifiedMoments, StratifiedTable, Summary, Table, Writer,
};
use gosset_stats::{Effect, Inference};

use crate::aggregate::States;
use crate::call::Call;
use crate::effect::{effect_type, effects_to_struct};
use crate::function::{AggregateParts, ArgumentKind, Function, Implementation, ScalarParts};
use crate::input::{LEFT_OUT, Prepared, Values, failed, slots_of};
use crate::labels::{Keyed, Labels};
use crate::options::Options;
use crate::scalar::{by_row, summaries};

/// A comparison with its options: the one-call aggregate and the `*_effect` function are both made of it.
pub(crate) trait Comparison: Debug + Send + Sync + 'static {
    /// What it compares two of.
    type Summary: SqlSummary;

    /// The comparison that the options ask for.
    fn new(options: &Options) -> Self;

    /// The effect of treatment against control.
    fn compare(
        &self,
        treatment: &Self::Summary,
        control: &Self::Summary,
    ) -> gosset_stats::Result<Effect>;

    /// The empty table that a call of the one-call form asks for.
    fn table(
        columns: Columns,
        call: &Call,
    ) -> gosset_stats::Result<<Self::Summary as SqlSummary>::Table> {
        Self::Summary::table(columns, call)
    }
}

/// A comparison that asks for no more than how to infer.
pub(crate) trait Plain: Debug + Send + Sync + 'static {
    /// What it compares two of.
    type Summary: SqlSummary;

    /// The effect of treatment against control.
    const COMPARE: fn(&Self::Summary, &Self::Summary, &Inference) -> gosset_stats::Result<Effect>;
}

/// A plain comparison with its options.
#[derive(Debug)]
pub(crate) struct Inferred<P> {
    inference: Inference,
    comparison: PhantomData<P>,
}

impl<P: Plain> Comparison for Inferred<P> {
    type Summary = P::Summary;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference(), comparison: PhantomData }
    }

    fn compare(
        &self,
        treatment: &P::Summary,
        control: &P::Summary,
    ) -> gosset_stats::Result<Effect> {
        (P::COMPARE)(treatment, control, &self.inference)
    }
}

/// What a two-arm function makes of the arms of its groups: the effects of a comparison, or results of its own.
pub(crate) trait Results: Debug + Send + Sync + 'static {
    /// What it compares two of.
    type Summary: SqlSummary;

    /// What the options ask for.
    fn new(options: &Options) -> Self;

    /// The results of groups.
    fn results(
        &self,
        arms: &mut dyn Iterator<Item = Result<Arms<Self::Summary>>>,
        function: &Function,
    ) -> Result<ArrayRef>;

    /// The empty table that a call asks for.
    fn table(
        columns: Columns,
        call: &Call,
    ) -> gosset_stats::Result<<Self::Summary as SqlSummary>::Table> {
        Self::Summary::table(columns, call)
    }
}

impl<C: Comparison> Results for C {
    type Summary = C::Summary;

    fn new(options: &Options) -> Self {
        <C as Comparison>::new(options)
    }

    fn results(
        &self,
        arms: &mut dyn Iterator<Item = Result<Arms<C::Summary>>>,
        function: &Function,
    ) -> Result<ArrayRef> {
        let effects = arms
            .map(|arms| {
                let arms = arms?;
                let effect = Comparison::compare(self, &arms.treatment, &arms.control);
                let mut effect = effect.map_err(|e| failed(function, e))?;
                arms.tell(&mut effect);
                Ok(Some(effect))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(effects_to_struct(&effects)))
    }

    fn table(
        columns: Columns,
        call: &Call,
    ) -> gosset_stats::Result<<C::Summary as SqlSummary>::Table> {
        <C as Comparison>::table(columns, call)
    }
}

/// The two arms of a group.
pub(crate) struct Arms<S> {
    pub(crate) treatment: S,
    pub(crate) control: S,
    /// Rows whose arm is NULL.
    pub(crate) without_arm: u64,
    /// What to say where a named arm has no rows.
    pub(crate) missing: Option<String>,
}

impl<S> Arms<S> {
    /// Tells an effect of what is known of the arms beside their summaries.
    fn tell(&self, effect: &mut Effect) {
        effect.n_dropped += self.without_arm;
        if self.missing.is_some() {
            effect.note.clone_from(&self.missing);
        }
    }

    /// Several effects with their labels.
    pub(crate) fn several<L>(
        self,
        function: &Function,
        compare: impl Fn(&S, &S) -> gosset_stats::Result<Vec<(L, Banded)>>,
    ) -> Result<Vec<(L, Banded)>> {
        let effects = compare(&self.treatment, &self.control);
        let mut effects = effects.map_err(|e| failed(function, e))?;
        effects.iter_mut().for_each(|(_, banded)| self.tell(&mut banded.effect));
        Ok(effects)
    }
}

/// A comparison of two stored summaries, of one kind or of several.
pub(crate) trait StoredComparison: Debug + Send + Sync + 'static {
    /// The comparison that the options ask for.
    fn new(options: &Options) -> Self;

    /// The effect of treatment against control, from the bytes of their summaries.
    fn compare(&self, treatment: &[u8], control: &[u8]) -> gosset_stats::Result<Effect>;
}

impl<C: Comparison> StoredComparison for C {
    fn new(options: &Options) -> Self {
        <C as Comparison>::new(options)
    }

    fn compare(&self, treatment: &[u8], control: &[u8]) -> gosset_stats::Result<Effect> {
        let (t, c) = (C::Summary::decode(treatment)?, C::Summary::decode(control)?);
        Comparison::compare(self, &t, &c)
    }
}

/// Results of two stored summaries, of one kind or of several, where they are no effects.
pub(crate) trait StoredResults: Debug + Send + Sync + 'static {
    /// What the options ask for.
    fn new(options: &Options) -> Self;

    /// The result, as an array of one, from the bytes of the summaries.
    fn result(&self, treatment: &[u8], control: &[u8], function: &Function) -> Result<ArrayRef>;
}

impl<C: Results> StoredResults for C {
    fn new(options: &Options) -> Self {
        <C as Results>::new(options)
    }

    fn result(&self, treatment: &[u8], control: &[u8], function: &Function) -> Result<ArrayRef> {
        let decode = |bytes| C::Summary::decode(bytes).map_err(|e| failed(function, e));
        let (treatment, control) = (decode(treatment)?, decode(control)?);
        let arms = Arms { treatment, control, without_arm: 0, missing: None };
        self.results(&mut std::iter::once(Ok(arms)), function)
    }
}

/// A summary that is made of columns.
pub(crate) trait SqlSummary: Summary {
    /// Many of them.
    type Table: Table<Summary = Self> + 'static;

    /// The empty table that a call asks for.
    fn table(columns: Columns, call: &Call) -> gosset_stats::Result<Self::Table>;
    /// Its columns.
    fn columns(&self) -> Columns;
    /// Rows of the arm, with those that were left out.
    fn seen(&self) -> u64;
    /// Counts rows that were left out.
    fn add_dropped(table: &mut Self::Table, slot: usize, rows: u64);
}

impl SqlSummary for Moments {
    type Table = MomentsTable;
    fn table(columns: Columns, _: &Call) -> gosset_stats::Result<MomentsTable> {
        Ok(MomentsTable::new(columns))
    }
    fn columns(&self) -> Columns {
        self.columns().clone()
    }
    fn seen(&self) -> u64 {
        self.n() + self.dropped()
    }
    fn add_dropped(table: &mut MomentsTable, slot: usize, rows: u64) {
        table.add_dropped(slot, rows);
    }
}

impl SqlSummary for StratifiedMoments {
    type Table = StratifiedTable;
    fn table(columns: Columns, _: &Call) -> gosset_stats::Result<StratifiedTable> {
        Ok(StratifiedTable::new(columns))
    }
    fn columns(&self) -> Columns {
        self.columns().clone()
    }
    fn seen(&self) -> u64 {
        self.n() + self.dropped()
    }
    fn add_dropped(table: &mut StratifiedTable, slot: usize, rows: u64) {
        table.add_dropped(slot, rows);
    }
}

impl SqlSummary for Buckets {
    type Table = BucketTable;
    fn table(columns: Columns, call: &Call) -> gosset_stats::Result<BucketTable> {
        BucketTable::new(columns, call.options.buckets())
    }
    fn columns(&self) -> Columns {
        self.columns().clone()
    }
    fn seen(&self) -> u64 {
        self.rows() + self.dropped()
    }
    fn add_dropped(table: &mut BucketTable, slot: usize, rows: u64) {
        table.add_dropped(slot, rows);
    }
}

impl SqlSummary for BinnedMoments {
    type Table = BinnedTable;
    fn table(columns: Columns, call: &Call) -> gosset_stats::Result<BinnedTable> {
        BinnedTable::new(columns, call.histogram().relative_error)
    }
    fn columns(&self) -> Columns {
        self.columns().clone()
    }
    fn seen(&self) -> u64 {
        self.rows() + self.dropped()
    }
    fn add_dropped(table: &mut BinnedTable, slot: usize, rows: u64) {
        table.add_dropped(slot, rows);
    }
}

impl SqlSummary for Histogram {
    type Table = HistogramTable;
    fn table(columns: Columns, call: &Call) -> gosset_stats::Result<HistogramTable> {
        HistogramTable::new(columns, &call.histogram())
    }
    fn columns(&self) -> Columns {
        self.columns().clone()
    }
    fn seen(&self) -> u64 {
        self.rows() + self.dropped()
    }
    fn add_dropped(table: &mut HistogramTable, slot: usize, rows: u64) {
        table.add_dropped(slot, rows);
    }
}

impl SqlSummary for Replicates {
    type Table = ReplicatesTable;
    fn table(columns: Columns, call: &Call) -> gosset_stats::Result<ReplicatesTable> {
        ReplicatesTable::new(columns, call.resampling())
    }
    fn columns(&self) -> Columns {
        self.columns().clone()
    }
    fn seen(&self) -> u64 {
        self.rows() + self.dropped()
    }
    fn add_dropped(table: &mut ReplicatesTable, slot: usize, rows: u64) {
        table.add_dropped(slot, rows);
    }
}

/// Of units, whose covariates are numbers.
impl SqlSummary for Gram {
    type Table = GramTable;
    fn table(columns: Columns, call: &Call) -> gosset_stats::Result<GramTable> {
        let (outcomes, covariates) = columns.names().split_at(columns.outcomes());
        let number = |name: &String| Regressor { name: name.clone(), kind: RegressorKind::Number };
        let regressors = covariates.iter().map(number);
        let columns = GramColumns::new(outcomes.iter().cloned(), regressors, false, 0)?;
        GramTable::new(columns, call.options.max_rows())
    }
    fn columns(&self) -> Columns {
        let (outcomes, regressors) = (self.columns().outcomes(), self.columns().regressors());
        let names = outcomes.iter().chain(regressors.iter().map(|regressor| &regressor.name));
        Columns::new(names.cloned(), outcomes.len()).expect("the names of a gram are columns")
    }
    fn seen(&self) -> u64 {
        self.n() + self.dropped()
    }
    fn add_dropped(table: &mut GramTable, slot: usize, rows: u64) {
        table.add_dropped(slot, rows);
    }
}

/// The one-call form of a comparison.
pub(crate) const fn two_arm<C: Results>() -> Implementation {
    Implementation::Aggregate(AggregateParts { states: states::<C>, returns: effect_type })
}

/// The comparison of two stored summaries.
pub(crate) const fn of_summaries<C: StoredComparison>() -> Implementation {
    Implementation::Scalar(ScalarParts { invoke: compare_stored::<C>, returns: effect_type })
}

/// Results of two stored summaries that are no effects.
pub(crate) const fn results_of_summaries<C: StoredResults>(
    returns: fn() -> DataType,
) -> Implementation {
    Implementation::Scalar(ScalarParts { invoke: results_of_stored::<C>, returns })
}

pub(crate) fn states<C: Results>(call: &Call) -> Result<Box<dyn States>> {
    let mut states = TwoArm::<C> {
        comparison: C::new(&call.options),
        call: call.clone(),
        columns: None,
        table: None,
        groups: Vec::new(),
        found_bytes: 0,
    };
    if let Some(columns) = Values::columns_of_types(call)? {
        states.make_table(columns)?;
    }
    Ok(Box::new(states))
}

/// The arms of many groups: slot `2g` is control and slot `2g + 1` treatment of group `g`.
#[derive(Debug)]
struct TwoArm<C: Results> {
    comparison: C,
    call: Call,
    /// `None` while the length of an array of covariates is not known, as is the table.
    columns: Option<Columns>,
    table: Option<<C::Summary as SqlSummary>::Table>,
    groups: Vec<Group>,
    /// About the bytes of the names of all groups.
    found_bytes: usize,
}

/// What a group keeps beside the summaries of its arms.
#[derive(Debug, Clone, Default)]
struct Group {
    /// Rows whose arm is NULL.
    without_arm: u64,
    /// Arms that rows had beside the two named ones: the first [`MAX_FOUND`] by name.
    found: BTreeSet<String>,
}

/// How many arms are remembered for the message about an arm that no row has.
const MAX_FOUND: usize = 20;

impl Group {
    /// Remembers an arm; returns the bytes that it takes more.
    fn add_found(&mut self, arm: &str) -> usize {
        if self.found.contains(arm) {
            return 0;
        }
        self.found.insert(arm.to_owned());
        if self.found.len() > MAX_FOUND {
            self.found.pop_last();
        }
        arm.len() + 2 * size_of::<String>()
    }
}

impl<C: Results> TwoArm<C> {
    fn make_table(&mut self, columns: Columns) -> Result<()> {
        let table = C::table(columns.clone(), &self.call);
        let mut table = table.map_err(|e| self.failed(e))?;
        table.resize(2 * self.groups.len());
        (self.columns, self.table) = (Some(columns), Some(table));
        Ok(())
    }

    fn failed(&self, error: gosset_stats::Error) -> datafusion::error::DataFusionError {
        failed(self.call.function, error)
    }

    /// The slot of each row; rows of other arms are left out, rows without an arm are counted.
    fn arm_slots(
        &mut self,
        arm: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<u32>> {
        let mut slots = slots_of(groups, filter);
        let names = self.call.options.text("treatment").zip(self.call.options.text("control"));
        match (arm.data_type(), names) {
            (DataType::Boolean, _) => {
                let arm = arm.as_boolean();
                for (r, slot) in slots.iter_mut().enumerate().filter(|(_, s)| **s != LEFT_OUT) {
                    if arm.is_valid(r) {
                        *slot = 2 * *slot + u32::from(arm.value(r));
                    } else {
                        self.groups[groups[r]].without_arm += 1;
                        *slot = LEFT_OUT;
                    }
                }
            }
            (DataType::Dictionary(_, _), Some((treatment, control))) => {
                let Some(keyed) = Keyed::new(arm)? else {
                    return internal_err!("a dictionary was none: {}", arm.data_type());
                };
                // By label, and at the end for none: which arm it is, if it is one.
                let arms = keyed.labels.iter().map(|label| match label.as_deref() {
                    Some(label) if label == treatment => 1,
                    Some(label) if label == control => 0,
                    _ => LEFT_OUT,
                });
                let arms: Vec<u32> = arms.chain([LEFT_OUT]).collect();
                let none = keyed.labels.len();
                for (r, slot) in slots.iter_mut().enumerate().filter(|(_, s)| **s != LEFT_OUT) {
                    let key = keyed.key(r).unwrap_or(none);
                    if arms[key] != LEFT_OUT {
                        *slot = 2 * *slot + arms[key];
                        continue;
                    }
                    *slot = LEFT_OUT;
                    let group = &mut self.groups[groups[r]];
                    match keyed.labels.get(key).and_then(Option::as_deref) {
                        Some(label) => self.found_bytes += group.add_found(label),
                        None => group.without_arm += 1,
                    }
                }
            }
            (_, Some((treatment, control))) => {
                let labels = Labels::new(arm)?;
                for (r, slot) in slots.iter_mut().enumerate().filter(|(_, s)| **s != LEFT_OUT) {
                    let group = &mut self.groups[groups[r]];
                    *slot = labels.with(r, |label| match label {
                        Some(label) if label == treatment => 2 * *slot + 1,
                        Some(label) if label == control => 2 * *slot,
                        Some(label) => {
                            self.found_bytes += group.add_found(label);
                            LEFT_OUT
                        }
                        None => {
                            group.without_arm += 1;
                            LEFT_OUT
                        }
                    });
                }
            }
            (other, None) => {
                return exec_err!("{}: the arm is {other} and not named", self.call.function.name);
            }
        }
        Ok(slots)
    }

    /// The summaries of control and treatment.
    fn arms(&self, group: usize) -> Result<(C::Summary, C::Summary)> {
        if let Some(table) = &self.table {
            return Ok((table.get(2 * group), table.get(2 * group + 1)));
        }
        let columns = Values::columns_without_rows(&self.call)?;
        let mut empty = C::table(columns, &self.call).map_err(|e| self.failed(e))?;
        empty.resize(2);
        Ok((empty.get(0), empty.get(1)))
    }

    /// What to say where a named arm has no rows, not even such as are left out, and other arms have.
    fn missing_arm(
        &self,
        group: usize,
        treatment: &C::Summary,
        control: &C::Summary,
    ) -> Option<String> {
        let names = (self.call.options.text("treatment")?, self.call.options.text("control")?);
        let (name, other, other_rows) = match (treatment.seen(), control.seen()) {
            (0, rows) => (names.0, names.1, rows),
            (rows, 0) => (names.1, names.0, rows),
            _ => return None,
        };
        let mut found: BTreeSet<&str> =
            self.groups[group].found.iter().map(String::as_str).collect();
        if other_rows > 0 {
            found.insert(other);
        }
        if found.is_empty() {
            return None;
        }
        let found: Vec<String> = found.into_iter().map(|arm| format!("'{arm}'")).collect();
        Some(format!("no row has the arm '{name}'; arms found: {}", found.join(", ")))
    }
}

impl<C: Results> States for TwoArm<C> {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Group::default());
        if let Some(table) = &mut self.table {
            table.resize(2 * groups);
        }
    }

    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let arm = self.call.arguments.iter().position(|b| b.argument.kind == ArgumentKind::Arm);
        let Some(arm) = arm else {
            return exec_err!("{}: no argument is the arm", self.call.function.name);
        };
        let slots = self.arm_slots(&args[arm], groups, filter)?;
        if slots.iter().all(|&slot| slot == LEFT_OUT) {
            return Ok(());
        }
        let values = Values::new(&self.call, args, &slots)?;
        match &self.columns {
            Some(columns) => values.check_same(&self.call, columns)?,
            None => self.make_table(values.columns(&self.call)?)?,
        }
        let Some(table) = &mut self.table else { return Ok(()) };
        let prepared = Prepared::new(&self.call, args, values, slots, |slot| {
            C::Summary::add_dropped(table, slot as usize, 1);
        })?;
        prepared.with_rows(|rows| table.update(rows));
        Ok(())
    }

    fn merge(&mut self, group: usize, state: &[u8]) -> Result<()> {
        let read = || -> gosset_stats::Result<_> {
            let mut reader = Reader::new(state);
            let without_arm = reader.rows()?;
            let found = (0..reader.count(1)?)
                .map(|_| reader.text())
                .collect::<gosset_stats::Result<Vec<_>>>()?;
            let arms = match reader.u8()? {
                0 => None,
                _ => {
                    Some((C::Summary::decode(reader.blob()?)?, C::Summary::decode(reader.blob()?)?))
                }
            };
            reader.finish()?;
            Ok((without_arm, found, arms))
        };
        let (without_arm, found, arms) = read().map_err(|e| self.failed(e))?;
        self.groups[group].without_arm += without_arm;
        let found = found.iter().map(|arm| self.groups[group].add_found(arm));
        self.found_bytes += found.sum::<usize>();
        let Some((control, treatment)) = arms else { return Ok(()) };
        if self.table.is_none() {
            self.make_table(control.columns())?;
        }
        if let Some(table) = &mut self.table {
            let merged = table
                .merge(2 * group, &control)
                .and_then(|()| table.merge(2 * group + 1, &treatment));
            merged.map_err(|e| failed(self.call.function, e))?;
        }
        Ok(())
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        let mut writer = Writer::default();
        let Group { without_arm, found } = &self.groups[group];
        writer.varint(*without_arm);
        writer.varint(found.len() as u64);
        found.iter().for_each(|arm| writer.text(arm));
        match &self.table {
            None => writer.u8(0),
            Some(table) => {
                writer.u8(1);
                writer.blob(&table.get(2 * group).encode());
                writer.blob(&table.get(2 * group + 1).encode());
            }
        }
        out.extend_from_slice(&writer.into_bytes());
    }

    fn evaluate(&self, groups: Range<usize>) -> Result<ArrayRef> {
        let mut arms = groups.map(|group| {
            let (control, treatment) = self.arms(group)?;
            let missing = self.missing_arm(group, &treatment, &control);
            let without_arm = self.groups[group].without_arm;
            Ok(Arms { treatment, control, without_arm, missing })
        });
        self.comparison.results(&mut arms, self.call.function)
    }

    fn check_whole(&self) -> Result<()> {
        if self.call.options.text("treatment").is_none() {
            return Ok(());
        }
        let (control, treatment) = self.arms(0)?;
        match self.missing_arm(0, &treatment, &control) {
            Some(missing) => exec_err!("{}: {missing}", self.call.function.name),
            None => Ok(()),
        }
    }

    fn drop_first(&mut self, groups: usize) {
        self.groups.drain(..groups);
        if let Some(table) = &mut self.table {
            table.drop_first(2 * groups);
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.table.as_ref().map_or(0, Table::size)
            + self.groups.capacity() * size_of::<Group>()
            + self.found_bytes
    }
}

fn compare_stored<C: StoredComparison>(
    call: &Call,
    values: &[ColumnarValue],
    rows: usize,
) -> Result<ColumnarValue> {
    let comparison = C::new(&call.options);
    for_each_pair(values, rows, |pairs| {
        let effects = pairs
            .iter()
            .map(|pair| {
                let Some((t, c)) = pair else { return Ok(None) };
                comparison.compare(t, c).map(Some).map_err(|e| failed(call.function, e))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(effects_to_struct(&effects)))
    })
}

fn results_of_stored<C: StoredResults>(
    call: &Call,
    values: &[ColumnarValue],
    rows: usize,
) -> Result<ColumnarValue> {
    let comparison = C::new(&call.options);
    let Implementation::Scalar(ScalarParts { returns, .. }) = &call.function.implementation else {
        return internal_err!("{} is no function of summaries", call.function.name);
    };
    for_each_pair(values, rows, |pairs| {
        let null = new_null_array(&returns(), 1);
        let results = pairs
            .iter()
            .map(|pair| match pair {
                Some((t, c)) => comparison.result(t, c, call.function),
                None => Ok(Arc::clone(&null)),
            })
            .collect::<Result<Vec<_>>>()?;
        let results: Vec<&dyn Array> = results.iter().map(AsRef::as_ref).collect();
        if results.is_empty() { Ok(new_empty_array(&returns())) } else { Ok(concat(&results)?) }
    })
}

/// Calls `f` with the bytes of treatment and control of every row, if neither is NULL: of one row where both are scalars.
fn for_each_pair(
    values: &[ColumnarValue],
    rows: usize,
    f: impl FnOnce(&[Option<(&[u8], &[u8])>]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    by_row(&values[..2], rows, |arrays| {
        let pairs = summaries(&arrays[0])?.into_iter().zip(summaries(&arrays[1])?);
        f(&pairs.map(|(t, c)| t.zip(c)).collect::<Vec<_>>())
    })
}
