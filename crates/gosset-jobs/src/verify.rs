//! Verifying what is published: the same results from all raw rows, in another store, compared bit by bit.

use arrow::array::RecordBatch;
use arrow::datatypes::FieldRef;
use arrow::row::{RowConverter, SortField};
use gosset_engine::EngineOptions;

use crate::days::Late;
use crate::job::Job;
use crate::plan::{Asked, State, Work};
use crate::run::{Event, Outcome, Place, Runner};
use crate::tables::{EFFECTS, rows_of};
use crate::{JobError, Result, internal};

/// What came of a verification.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verified {
    /// Results that are the same bits.
    pub same: Vec<Place>,
    /// Results that are not, with how many effects differ.
    pub differ: Vec<(Place, usize)>,
    /// Results that could not be computed again, and why.
    pub failed: Vec<(Place, JobError)>,
}

impl Runner {
    /// Computes everything that is published up to a day again: from raw rows, every date from all of its days, in a
    /// temporary store. Nothing is published.
    ///
    /// # Errors
    /// If the store cannot be read, or the results cannot be computed for want of space.
    pub async fn verify(
        &self,
        asked: &Asked,
        options: EngineOptions,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Verified> {
        let plan = self.plan(asked).await?;
        let mut verified = Verified::default();
        for late in [Late::LeftOut, Late::Counted] {
            let published = |work: &&Work| {
                work.late == late
                    && matches!(&work.state, State::UpToDate(p) if p.results.blocked.is_empty())
            };
            let places: Vec<Place> = plan.work.iter().filter(published).map(Place::of).collect();
            if places.is_empty() {
                continue;
            }
            let folder = self.engine().folder()?;
            let folder = folder.ok_or_else(|| internal("a cluster has no scratch folder"))?;
            let store = folder.url().to_string();
            let again = Self::new(Job { store, ..self.job().clone() }, options.clone())?;
            let asked = Asked { afresh: true, backfill: late == Late::Counted, ..asked.clone() };
            let Outcome { failed, .. } = again.run(&asked, tell).await?;
            for place in places {
                let error = failed.iter().find(|(of, _)| of.experiment == place.experiment);
                match error {
                    Some((_, error)) => verified.failed.push((place, error.clone())),
                    None => {
                        let mine = self.rows_of_effects(&place).await?;
                        let theirs = again.rows_of_effects(&place).await?;
                        match differences(mine, theirs) {
                            0 => verified.same.push(place),
                            n => verified.differ.push((place, n)),
                        }
                    }
                }
            }
        }
        Ok(verified)
    }

    /// The effects of a date, each as bytes, in their order.
    async fn rows_of_effects(&self, place: &Place) -> Result<Vec<Vec<u8>>> {
        let Some(table) = self.store().existing(EFFECTS).await? else { return Ok(Vec::new()) };
        let rows = rows_of(&self.job().name, &place.experiment, place.date);
        let mut all = Vec::new();
        for batch in table.read(Some(rows)).await? {
            all.extend(as_bytes(&batch)?);
        }
        all.sort();
        Ok(all)
    }
}

/// The rows of effects without their notes, which tell of audits: these look at what has come since, too.
fn as_bytes(batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let schema = batch.schema();
    let told = |(_, field): &(usize, &FieldRef)| field.name() != "note";
    let columns: Vec<usize> =
        schema.fields().iter().enumerate().filter(told).map(|(i, _)| i).collect();
    let batch = batch.project(&columns)?;
    let fields =
        batch.schema().fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let rows = converter.convert_columns(batch.columns())?;
    Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
}

/// How many rows one side has that the other has not.
fn differences(mine: Vec<Vec<u8>>, mut theirs: Vec<Vec<u8>>) -> usize {
    let longer = mine.len().max(theirs.len());
    let mut same = 0;
    for row in mine {
        if let Ok(at) = theirs.binary_search(&row) {
            theirs.remove(at);
            same += 1;
        }
    }
    longer - same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_on_both_sides() {
        let rows = |all: &[u8]| all.iter().map(|b| vec![*b]).collect::<Vec<_>>();
        assert_eq!(differences(rows(&[1, 2, 2]), rows(&[1, 2, 2])), 0);
        assert_eq!(differences(rows(&[1, 2, 2]), rows(&[1, 2])), 1);
        assert_eq!(differences(rows(&[1]), rows(&[2, 3])), 2);
    }
}
