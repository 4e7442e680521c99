//! What is known of the parts that unit-days were made of. It is kept with the commits that published them.

use std::collections::BTreeMap;

use gosset_engine::delta::{Commit, DeltaTableHandle};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::descriptor::Input;
use crate::plan::is_whole;
use crate::{JobError, Result, internal};

/// The key of the parts of a commit in its metadata.
pub(super) const PARTS: &str = "parts";

/// A part of a source, as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    pub(crate) job: String,
    pub(crate) part: String,
    /// What the source's section says that unit-days depend on.
    pub(crate) made_of: String,
    pub(crate) input: Input,
    /// The columns of unit-days that were made.
    pub(crate) columns: Vec<String>,
    /// By day, what its rows are.
    pub(crate) days: BTreeMap<Date, DayRecord>,
    /// Rows without a unit, and rows without a time.
    #[serde(default)]
    pub(crate) without_unit: u64,
    #[serde(default)]
    pub(crate) without_time: u64,
    /// The columns of its rows, with their types.
    #[serde(default)]
    pub(crate) schema: BTreeMap<String, String>,
}

/// The unit-days of a day of a part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DayRecord {
    pub(crate) rows: u64,
    pub(crate) units: u64,
    /// A hash of the units and their rows, then of each column: whatever the order of rows.
    #[serde(with = "hex")]
    pub(crate) digests: Vec<u64>,
    /// The sum of each column over units; of lists, nothing.
    pub(crate) sums: Vec<f64>,
}

impl PartRecord {
    /// Whether its files are gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.input.files == 0
    }

    /// The hash of the units of a day with their values in some columns.
    pub(crate) fn digest(&self, day: Date, columns: &[String]) -> Option<u64> {
        let of = self.days.get(&day)?;
        let wanted = self.columns.iter().zip(&of.digests[1..]).filter(|(c, _)| columns.contains(c));
        Some(wanted.fold(of.digests[0], |all, (_, digest)| all.rotate_left(1) ^ digest))
    }
}

/// The newest records of a job's parts in a table.
pub(super) async fn records(
    table: &DeltaTableHandle,
    job: &str,
) -> Result<BTreeMap<String, PartRecord>> {
    let mut found = BTreeMap::new();
    let mut unreadable = None;
    table
        .latest_commit(|commit| {
            match of_commit(commit) {
                Ok(all) => {
                    for record in all.into_iter().filter(|record| record.job == job) {
                        found.entry(record.part.clone()).or_insert(record);
                    }
                }
                Err(error) => unreadable = Some(error),
            }
            unreadable.is_some() || is_whole(commit, job)
        })
        .await?;
    match unreadable {
        Some(error) => Err(error.about(&table.location())),
        None => Ok(found),
    }
}

pub(super) fn of_commit(commit: &Commit) -> Result<Vec<PartRecord>> {
    let Some(text) = commit.metadata.get(PARTS) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|error| {
        let version = commit.version;
        JobError::Data(format!("the metadata of version {version} cannot be read: {error}"))
    })
}

/// The metadata of a commit that publishes parts.
pub(super) fn metadata(records: &[PartRecord]) -> Result<gosset_engine::delta::Metadata> {
    let text = serde_json::to_string(records).map_err(|error| internal(error.to_string()))?;
    Ok([(PARTS, text), ("gosset_version", env!("CARGO_PKG_VERSION").to_owned())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}

/// Hashes as one string, which is shorter than numbers and exact for every reader of JSON.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(all: &[u64], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&all.iter().map(|digest| format!("{digest:016x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.as_bytes().chunks(16);
        let digest = |digits| u64::from_str_radix(std::str::from_utf8(digits).unwrap_or("?"), 16);
        let all: Vec<u64> =
            digits.map(digest).collect::<Result<_, _>>().map_err(D::Error::custom)?;
        if all.is_empty() {
            Err(D::Error::custom("expected a digest, found none"))
        } else {
            Ok(all)
        }
    }
}
