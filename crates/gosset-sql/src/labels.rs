//! Rows by their labels: arms, strata and the levels of factors.

use std::collections::HashMap;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringViewArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;

use crate::input::{coerce_stratum, with_parent_nulls};

/// Rows by their label: for every row the place of its label among `labels`, `None` for NULL.
pub(crate) struct Keyed {
    pub(crate) labels: Vec<Option<String>>,
    keys: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
}

impl Keyed {
    /// Of a dictionary; `None` for other arrays.
    pub(crate) fn new(array: &ArrayRef) -> Result<Option<Self>> {
        let Some(dictionary) = array.as_any_dictionary_opt() else { return Ok(None) };
        let values = cast(dictionary.values(), &DataType::Utf8View)?;
        let labels = values.as_string_view().iter().map(|label| label.map(str::to_owned)).collect();
        let keys = cast(dictionary.keys(), &DataType::Int64)?;
        let (_, keys, nulls) = keys.as_primitive::<Int64Type>().clone().into_parts();
        Ok(Some(Self { labels, keys, nulls }))
    }

    /// The place of the label of row `r`.
    #[inline]
    pub(crate) fn key(&self, r: usize) -> Option<usize> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(r));
        (!is_null).then(|| self.keys[r] as usize)
    }
}

/// The text of labels: strings, or integers as they are written.
pub(crate) enum Labels<'a> {
    Text(&'a StringViewArray),
    Integer(&'a Int64Array),
}

impl<'a> Labels<'a> {
    pub(crate) fn new(array: &'a ArrayRef) -> Result<Self> {
        match array.data_type() {
            DataType::Utf8View => Ok(Self::Text(array.as_string_view())),
            DataType::Int64 => Ok(Self::Integer(array.as_primitive::<Int64Type>())),
            other => internal_err!("labels were not coerced: found {other}"),
        }
    }

    /// Calls `f` with the text of row `r`, or with `None` for NULL.
    pub(crate) fn with<T>(&self, r: usize, f: impl FnOnce(Option<&str>) -> T) -> T {
        match self {
            Self::Text(a) => f(a.is_valid(r).then(|| a.value(r))),
            Self::Integer(a) if a.is_null(r) => f(None),
            Self::Integer(a) => f(Some(&a.value(r).to_string())),
        }
    }
}

/// The labels of the rows of a batch, and the place of each row's among them.
#[derive(Default)]
pub(crate) struct LabelsOfRows {
    /// Of which some may be those of no row, as a dictionary has them; `None` is NULL.
    pub(crate) labels: Vec<Option<String>>,
    pub(crate) of: Vec<u32>,
}

impl LabelsOfRows {
    /// Of the rows that are kept, where not all are. A struct has a label for each combination of its columns.
    pub(crate) fn new(array: &ArrayRef, keep: Option<&[usize]>) -> Result<Self> {
        let rows = |place: &mut dyn FnMut(usize) -> u32| -> Vec<u32> {
            match keep {
                Some(keep) => keep.iter().map(|&r| place(r)).collect(),
                None => (0..array.len()).map(place).collect(),
            }
        };
        if let Some(mut keyed) = Keyed::new(array)? {
            let none = keyed.labels.len() as u32;
            let of = rows(&mut |r| keyed.key(r).map_or(none, |key| key as u32));
            keyed.labels.push(None);
            return Ok(Self { labels: keyed.labels, of });
        }
        let (mut labels, mut places) = (Vec::new(), HashMap::new());
        let of = match array.data_type() {
            DataType::Struct(_) => return Self::combined(array, keep),
            DataType::Boolean => {
                let array = array.as_boolean();
                labels = [Some("false"), Some("true"), None].map(|l| l.map(str::to_owned)).into();
                rows(&mut |r| if array.is_valid(r) { array.value(r).into() } else { 2 })
            }
            DataType::Utf8View => {
                let array = array.as_string_view();
                let mut recent = Recent::default();
                rows(&mut |r| {
                    recent.place(array, r, |label| {
                        place(&mut places, label, |label| {
                            labels.push(label.map(str::to_owned));
                        })
                    })
                })
            }
            DataType::Int64 => {
                let (array, mut places) = (array.as_primitive::<Int64Type>(), HashMap::new());
                rows(&mut |r| {
                    let label = array.is_valid(r).then(|| array.value(r));
                    place(&mut places, label, |label| {
                        labels.push(label.map(|label| label.to_string()));
                    })
                })
            }
            other => return internal_err!("labels were not coerced: found {other}"),
        };
        Ok(Self { labels, of })
    }

    /// Of the combinations of the columns of a struct: `country=DE, device IS NULL`. A comma in a label is doubled, so that
    /// no two combinations have one text.
    fn combined(array: &ArrayRef, keep: Option<&[usize]>) -> Result<Self> {
        let parts = array.as_struct();
        let mut all: Option<Self> = None;
        for (name, column) in parts.column_names().into_iter().zip(parts.columns()) {
            let column = with_parent_nulls(parts, column);
            let Some(coerced) = coerce_stratum(column.data_type()) else {
                return internal_err!("strata were not coerced: found {}", column.data_type());
            };
            let mut one = Self::new(&cast(&column, &coerced)?, keep)?;
            for label in &mut one.labels {
                *label = Some(match label {
                    Some(label) => format!("{name}={}", label.replace(',', ",,")),
                    None => format!("{name} IS NULL"),
                });
            }
            all = Some(match all {
                None => one,
                Some(before) => before.times(&one),
            });
        }
        all.map_or_else(|| internal_err!("expected a struct with columns"), Ok)
    }

    /// The combinations that occur with other labels of the same rows.
    fn times(self, other: &Self) -> Self {
        let (mut labels, mut places) = (Vec::new(), HashMap::new());
        let text =
            |labels: &[Option<String>], at: u32| labels[at as usize].clone().unwrap_or_default();
        let of = self.of.iter().zip(&other.of).map(|(&a, &b)| {
            place(&mut places, (a, b), |(a, b)| {
                labels.push(Some(format!("{}, {}", text(&self.labels, a), text(&other.labels, b))));
            })
        });
        let of = of.collect();
        Self { labels, of }
    }

    /// The number that `number` gives to each row's label. It is asked for labels of rows alone.
    pub(crate) fn numbered(&self, mut number: impl FnMut(Option<&str>) -> u32) -> Vec<u32> {
        let mut numbers: Vec<Option<u32>> = vec![None; self.labels.len()];
        let of = self.of.iter().map(|&at| {
            let at = at as usize;
            *numbers[at].get_or_insert_with(|| number(self.labels[at].as_deref()))
        });
        of.collect()
    }
}

/// The place of a label, which is a new one for a new label.
fn place<K: Copy + Eq + Hash>(places: &mut HashMap<K, u32>, label: K, new: impl FnOnce(K)) -> u32 {
    let next = places.len() as u32;
    *places.entry(label).or_insert_with(|| {
        new(label);
        next
    })
}

/// The places of labels that came before, by what stands for them in an array where that is the label itself.
struct Recent([(u128, u32); Self::SIZE]);

impl Default for Recent {
    fn default() -> Self {
        // No label is that long.
        Self([(u128::MAX, 0); Self::SIZE])
    }
}

impl Recent {
    const SIZE: usize = 256;

    fn place<'a>(
        &mut self,
        array: &'a StringViewArray,
        r: usize,
        place: impl FnOnce(Option<&'a str>) -> u32,
    ) -> u32 {
        /// Up to so many bytes a view holds the label itself.
        const INLINE: u32 = 12;
        let view = array.views()[r];
        if array.is_null(r) || view as u32 > INLINE {
            return place(array.is_valid(r).then(|| array.value(r)));
        }
        let mixed = (view ^ (view >> 64)) as u64;
        let at = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let entry = &mut self.0[at as usize];
        if entry.0 != view {
            *entry = (view, place(Some(array.value(r))));
        }
        entry.1
    }
}
