//! Hashes of unit-days that do not depend on the order of rows: equal content is known as equal however it was read.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type};
use gosset_stats::exact::ExactSum;
use gosset_stats::units;
use jiff::civil::Date;

use super::record::DayRecord;
use crate::{Result, internal};

/// The hash of every unit of a column, which is one of integers, strings or bytes.
fn unit_hashes(column: &dyn Array) -> Result<Vec<u64>> {
    let short = |hash: u128| hash as u64;
    Ok(match column.data_type() {
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values();
            values.iter().map(|&unit| short(units::integer(unit.into()))).collect()
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            (0..values.len()).map(|i| short(units::string(values.value(i)))).collect()
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            (0..values.len()).map(|i| short(units::binary(values.value(i)))).collect()
        }
        other => return Err(internal(format!("units are {other}"))),
    })
}

/// What is known of a day while its unit-days are made.
#[derive(Debug, Default)]
pub(super) struct Day {
    rows: u64,
    units: u64,
    digests: Vec<u64>,
    sums: Vec<ExactSum>,
}

impl From<Day> for DayRecord {
    fn from(day: Day) -> Self {
        let Day { rows, units, digests, sums } = day;
        Self { rows, units, digests, sums: sums.iter().map(ExactSum::to_f64).collect() }
    }
}

/// Adds the unit-days of a batch to what is known of their days. Neither a unit nor a day is missing in it.
pub(super) fn add(
    to: &mut BTreeMap<Date, Day>,
    batch: &RecordBatch,
    columns: &[String],
) -> Result<()> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| internal(format!("the column {name} is missing")))
    };
    let hashes = unit_hashes(column(super::UNIT)?)?;
    let days = column(super::DAY)?.as_primitive::<Date32Type>();
    let rows = column(super::ROWS)?.as_primitive::<Int64Type>();
    let values = columns.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    for (row, &hash) in hashes.iter().enumerate() {
        let day = date(days.value(row))?;
        let of = to.entry(day).or_insert_with(|| Day {
            digests: vec![0; columns.len() + 1],
            sums: vec![ExactSum::new(); columns.len()],
            ..Day::default()
        });
        let counted = rows.value(row) as u64;
        of.units += 1;
        of.rows += counted;
        add_to(&mut of.digests[0], units::mix(hash, counted));
        for (digest, values) in of.digests[1..].iter_mut().zip(&values) {
            add_to(digest, value_hash(hash, values, row)?);
        }
        for (sum, values) in of.sums.iter_mut().zip(&values).filter(|(_, v)| v.is_valid(row)) {
            match values.data_type() {
                DataType::Float64 => sum.add(values.as_primitive::<Float64Type>().value(row)),
                DataType::Int64 => {
                    sum.add_scaled(values.as_primitive::<Int64Type>().value(row).into(), 0);
                }
                DataType::List(items) if *items.data_type() == DataType::Float64 => {
                    let list = values.as_list::<i32>().value(row);
                    let items = list.as_primitive::<Float64Type>().values();
                    items.iter().for_each(|&item| sum.add(item));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn add_to(digest: &mut u64, hash: u64) {
    *digest = digest.wrapping_add(hash);
}

/// The hash of a value of a unit; nothing for what adds nothing.
fn value_hash(unit: u64, values: &ArrayRef, row: usize) -> Result<u64> {
    if values.is_null(row) {
        return Ok(0);
    }
    Ok(match values.data_type() {
        DataType::Float64 => {
            units::mix(unit, values.as_primitive::<Float64Type>().value(row).to_bits())
        }
        DataType::Int64 => match values.as_primitive::<Int64Type>().value(row) {
            0 => 0,
            count => units::mix(unit, count as u64),
        },
        DataType::List(items) => {
            let list = values.as_list::<i32>().value(row);
            match items.data_type() {
                DataType::Float64 => {
                    let items = list.as_primitive::<Float64Type>().values().iter();
                    let each = items.map(|item| units::mix(unit, units::mix(1, item.to_bits())));
                    each.fold(0, u64::wrapping_add)
                }
                _ => {
                    let items = list.as_string::<i32>().iter().flatten();
                    let each = items.map(|item| units::mix(unit, units::string(item) as u64));
                    each.fold(0, u64::wrapping_add)
                }
            }
        }
        other => return Err(internal(format!("a column of unit-days is {other}"))),
    })
}

/// A day by its number since 1970-01-01.
pub(crate) fn date(days: i32) -> Result<Date> {
    let span = jiff::Span::new().try_days(i64::from(days));
    let day = span.and_then(|span| jiff::civil::date(1970, 1, 1).checked_add(span));
    day.map_err(|_| {
        crate::JobError::Data(format!("the day {days} since 1970-01-01 is not of this calendar"))
    })
}
