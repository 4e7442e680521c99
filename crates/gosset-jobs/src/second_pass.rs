//! The second pass over units: sums of what the first pass says of each of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::logical_expr::{cast, ident, lit};
use futures::TryStreamExt;
use gosset_stats::compare::Squares;
use tokio::task::JoinSet;

use crate::effects::{Asked, Place};
use crate::job::Experiment;
use crate::summaries::Slice;
use crate::units::{self, Units, state};
use crate::{Result, internal};

/// Adds up what is asked for over the units of treatment and of control.
pub(crate) async fn squares(
    experiment: &Experiment,
    units: &Units,
    asked: Vec<Asked>,
) -> Result<BTreeMap<Place, [Squares; 2]>> {
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let pass = Arc::new(Pass::new(experiment, asked));
    let text = |name: String| cast(ident(&name), DataType::Utf8).alias(name);
    let number = |name: &String| cast(ident(name), DataType::Float64).alias(name);
    let mut columns = vec![text(units::ARM.to_owned())];
    columns
        .extend(pass.splits.iter().filter_map(|split| split.segment).map(units::segment).map(text));
    let measured: BTreeSet<&String> = pass.measures.iter().flat_map(Measure::columns).collect();
    columns.extend(measured.into_iter().map(number));
    let analysed = units.frame.clone().filter(ident(units::STATE).eq(lit(state::ANALYSED)))?;
    let streams = analysed.select(columns)?.execute_stream_partitioned().await?;
    let mut partitions = JoinSet::new();
    for mut stream in streams {
        let pass = Arc::clone(&pass);
        partitions.spawn(async move {
            let mut squares = pass.nothing();
            while let Some(batch) = stream.try_next().await? {
                pass.add(&batch, &mut squares)?;
            }
            Ok(squares)
        });
    }
    let mut total = pass.nothing();
    while let Some(found) = partitions.join_next().await {
        let found: Result<Vec<[Squares; 2]>> =
            found.map_err(|error| internal(error.to_string()))?;
        for (total, found) in total.iter_mut().flatten().zip(found?.iter().flatten()) {
            total.merge(found);
        }
    }
    let places = pass.asked.iter().map(|(asked, _)| asked.place.clone());
    Ok(places.zip(total).collect())
}

/// What is looked up for each unit.
struct Pass {
    /// With the place of its measure.
    asked: Vec<(Asked, usize)>,
    measures: Vec<Measure>,
    splits: Vec<Split>,
}

/// The columns of a metric: its values and its covariates.
#[derive(PartialEq)]
struct Measure {
    value: String,
    covariates: Vec<String>,
}

impl Measure {
    fn columns(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.value).chain(&self.covariates)
    }
}

/// By arm which sums its units are of: which is asked for, and whether it is the treatment (0) or the control (1) there.
type ByArm = HashMap<String, Vec<(usize, usize)>>;

/// Everybody, or the units by their value of a segment.
#[derive(Default)]
struct Split {
    segment: Option<usize>,
    /// Everybody, or those without a value.
    without: ByArm,
    with: HashMap<String, ByArm>,
}

impl Pass {
    fn new(experiment: &Experiment, asked: Vec<Asked>) -> Self {
        let mut pass = Self { asked: Vec::new(), measures: Vec::new(), splits: Vec::new() };
        for (i, asked) in asked.into_iter().enumerate() {
            let (segment, value) = match &asked.place.slice {
                Slice::All => (None, None),
                Slice::Segment(segment, value) => (Some(*segment), value.as_ref()),
            };
            let split = pass.splits.iter().position(|split| split.segment == segment);
            let split = split.unwrap_or_else(|| {
                pass.splits.push(Split { segment, ..Split::default() });
                pass.splits.len() - 1
            });
            let split = &mut pass.splits[split];
            let by_arm = match value {
                Some(value) => split.with.entry(value.clone()).or_default(),
                None => &mut split.without,
            };
            for (arm, side) in [(&asked.place.arm, 0), (&experiment.control, 1)] {
                by_arm.entry(arm.clone()).or_default().push((i, side));
            }
            let covariates = 0..experiment.metrics[asked.part.metric].covariates.len();
            let covariates = covariates.map(|k| units::covariate(asked.part.metric, k)).collect();
            let measure = Measure { value: asked.part.value(), covariates };
            let known = pass.measures.iter().position(|known| *known == measure);
            let known = known.unwrap_or_else(|| {
                pass.measures.push(measure);
                pass.measures.len() - 1
            });
            pass.asked.push((asked, known));
        }
        pass
    }

    fn nothing(&self) -> Vec<[Squares; 2]> {
        vec![<[Squares; 2]>::default(); self.asked.len()]
    }

    /// Adds the units of a batch.
    fn add(&self, batch: &RecordBatch, squares: &mut [[Squares; 2]]) -> Result<()> {
        let arms = texts(batch, units::ARM)?;
        let measures = self.measures.iter().map(|measure| {
            let covariates = measure.covariates.iter().map(|name| numbers(batch, name));
            Ok((numbers(batch, &measure.value)?, covariates.collect::<Result<Vec<_>>>()?))
        });
        let measures = measures.collect::<Result<Vec<_>>>()?;
        let mut covariates = Vec::new();
        for split in &self.splits {
            let values = split.segment.map(|i| texts(batch, &units::segment(i))).transpose()?;
            for row in 0..batch.num_rows() {
                let value = values.filter(|values| values.is_valid(row));
                let by_arm = match value {
                    Some(values) => split.with.get(values.value(row)),
                    None => Some(&split.without),
                };
                let sums = by_arm.and_then(|by_arm| by_arm.get(arms.value(row)));
                for &(i, side) in sums.into_iter().flatten() {
                    let (asked, measure) = &self.asked[i];
                    let (outcomes, known) = &measures[*measure];
                    if outcomes.is_valid(row) {
                        let known = known.iter();
                        covariates.clear();
                        covariates.extend(known.map(|x| x.is_valid(row).then(|| x.value(row))));
                        if asked.part.kept.leaves_out() && covariates.contains(&None) {
                            continue;
                        }
                        let outcome = outcomes.value(row);
                        asked.influences[side].add(outcome, &covariates, &mut squares[i][side]);
                    }
                }
            }
        }
        Ok(())
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    let column = batch.column_by_name(name);
    Ok(column.ok_or_else(|| internal(format!("the column {name} is missing")))?.as_ref())
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    Ok(column(batch, name)?.as_string::<i32>())
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Float64Array> {
    Ok(column(batch, name)?.as_primitive::<Float64Type>())
}
