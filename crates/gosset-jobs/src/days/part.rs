//! The parts of a source: what is read at once, and read again when its files change.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::stats::Precision;
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::prelude::DataFrame;
use gosset_engine::{Engine, Listing};
use jiff::civil::Date;
use object_store::ObjectMeta;

use crate::descriptor::Input;
use crate::file::SourceSection;
use crate::{JobError, Result};

/// Files of a source that belong together: those of the folders of a day, or one file.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// `ds=2026-03-02`, or the path of the file below the source's location.
    pub(crate) name: String,
    /// The day of its folder.
    pub(crate) day: Option<Date>,
    pub(crate) files: Vec<ObjectMeta>,
    pub(crate) input: Input,
    /// Names and values that stand in the names of folders.
    folders: Vec<(String, String)>,
}

/// The parts of a source, as they are now, in the order of their names.
pub(crate) fn parts(section: &SourceSection, listing: &Listing) -> Result<Vec<Part>> {
    let mut files: BTreeMap<(String, Option<Date>), Vec<ObjectMeta>> = BTreeMap::new();
    for file in listing.files() {
        let path = listing.relative(file);
        let key = match &section.partition {
            None => (path, None),
            Some(key) => {
                let (_, value) = folders(&path).find(|(name, _)| name == key).ok_or_else(|| {
                    JobError::Data(format!("expected a folder '{key}=...' above the file '{path}'"))
                })?;
                let day: Date = value.parse().map_err(|_| {
                    JobError::Data(format!(
                        "expected a day such as {key}=2026-03-02, found '{key}={value}'"
                    ))
                })?;
                (format!("{key}={value}"), Some(day))
            }
        };
        files.entry(key).or_default().push(file.clone());
    }
    let part = |((name, day), files): ((String, Option<Date>), Vec<ObjectMeta>)| {
        let shared = |of: &ObjectMeta| folders(&listing.relative(of)).collect::<Vec<_>>();
        let mut common = shared(&files[0]);
        common.retain(|folder| files.iter().all(|file| shared(file).contains(folder)));
        Part { name, day, input: Input::of(&files), files, folders: common }
    };
    Ok(files.into_iter().map(part).collect())
}

/// The names and values in the folders of a path.
fn folders(path: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').filter_map(|folder| {
        let (name, value) = folder.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    })
}

impl Part {
    /// How many rows its files say that they have.
    pub(crate) async fn rows(&self, engine: &Engine, listing: &Listing) -> Result<Option<u64>> {
        let plan = engine.read_files(listing, &self.files).await?.create_physical_plan().await?;
        let known = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
        Ok(match known.num_rows {
            Precision::Exact(rows) => Some(rows as u64),
            _ => None,
        })
    }

    /// Its rows, with the columns that stand in the names of its folders.
    pub(crate) async fn read(&self, engine: &Engine, listing: &Listing) -> Result<DataFrame> {
        let frame = engine.read_files(listing, &self.files).await?;
        let schema = frame.schema().clone();
        let missing: Vec<Expr> = self
            .folders
            .iter()
            .filter(|(name, _)| !schema.has_column_with_unqualified_name(name))
            .map(|(name, value)| cast(lit(value.clone()), DataType::Utf8).alias(name))
            .collect();
        if missing.is_empty() {
            return Ok(frame);
        }
        let columns = schema.fields().iter().map(|f| ident(f.name())).chain(missing);
        Ok(frame.select(columns.collect::<Vec<_>>())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_from_paths() {
        let of = |path: &str| folders(path).collect::<Vec<_>>();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(of("ds=2026-03-02/c=x/a=b.parquet"), [pair("ds", "2026-03-02"), pair("c", "x")]);
        assert_eq!(of("a.parquet"), []);
    }
}
