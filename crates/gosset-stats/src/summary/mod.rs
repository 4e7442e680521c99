//! Summaries: the mergeable state of one arm, with a byte form that can be stored for years.
//!
//! The byte form starts with a header (magic, kind, layout version) and is canonical: equal summaries have equal bytes.

mod any;
pub mod binned;
pub mod buckets;
mod codec;
pub mod counts;
pub mod gram;
pub mod histogram;
mod labels;
pub mod moments;
pub mod replicates;
pub mod stratified;
mod totals;

pub use any::AnySummary;
pub use binned::{BinnedMoments, BinnedTable};
pub use buckets::{BucketTable, Buckets};
pub use codec::{Reader, Writer};
pub use counts::Counts;
pub use gram::{Gram, GramColumns, GramRows, GramTable, Regressor, RegressorKind};
pub use histogram::{Bin, Histogram, HistogramOptions, HistogramTable};
pub use moments::{Columns, Moments, MomentsTable};
pub use replicates::{Law, ReplicateTotals, Replicates, ReplicatesTable, Resampling};
pub use stratified::{Strata, StratifiedMoments, StratifiedTable};
pub use totals::Totals;

use crate::{Error, Result};

/// The kinds of summary. The numbers are part of the stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`Moments`].
    Moments = 1,
    /// [`Buckets`].
    Buckets = 2,
    /// [`Counts`].
    Counts = 3,
    /// [`Totals`].
    Totals = 4,
    /// [`Replicates`].
    Replicates = 5,
    /// [`Histogram`].
    Histogram = 6,
    /// [`Gram`].
    Gram = 7,
    /// [`StratifiedMoments`].
    StratifiedMoments = 8,
    /// [`BinnedMoments`].
    BinnedMoments = 9,
}

impl Kind {
    /// The name in messages and in `describe_summary`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Moments => "moments",
            Self::Buckets => "buckets",
            Self::Counts => "counts",
            Self::Totals => "totals",
            Self::Replicates => "replicates",
            Self::Histogram => "histogram",
            Self::Gram => "gram",
            Self::StratifiedMoments => "stratified_moments",
            Self::BinnedMoments => "binned_moments",
        }
    }
}

/// A mergeable state: associative and commutative, with the empty summary as identity, to the bit.
pub trait Summary: Sized + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// What it is, in the header of the bytes.
    const KIND: Kind;
    /// Version of the layout of the bytes; raised when it changes ("state-breaking").
    const LAYOUT: u8;

    /// Adds the rows of another summary.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the two were made with different columns or parameters.
    fn merge(&mut self, other: &Self) -> Result<()>;

    /// Appends the body of the byte form, without the header.
    fn write(&self, out: &mut Writer);

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are not such a body.
    fn read(bytes: &mut Reader<'_>) -> Result<Self>;

    /// The byte form: header and body.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.header(Self::KIND, Self::LAYOUT);
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another kind or a newer layout, [`Error::Damaged`] for anything else.
    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (kind, layout) = reader.header()?;
        if kind != Self::KIND {
            return Err(Error::Mismatch(format!(
                "expected a summary of kind '{}', found '{}'",
                Self::KIND.name(),
                kind.name()
            )));
        }
        if layout != Self::LAYOUT {
            return Err(Error::Mismatch(format!(
                "expected layout {} of a '{}' summary, found layout {layout}",
                Self::LAYOUT,
                kind.name()
            )));
        }
        let summary = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(summary)
    }
}

/// The kind of a stored summary.
///
/// # Errors
/// [`Error::Damaged`] if the bytes do not start with the header of a summary.
pub fn kind_of(bytes: &[u8]) -> Result<Kind> {
    Ok(Reader::new(bytes).header()?.0)
}

/// Rows on their way into a table of summaries: columns without NULL (rows with a NULL outcome were left out before).
#[derive(Debug, Clone, Copy, Default)]
pub struct Rows<'a> {
    /// The slot of each row.
    pub slots: &'a [u32],
    /// The columns, each as long as `slots`: outcomes first, then covariates (0 where missing).
    pub columns: &'a [&'a [f64]],
    /// For each column the rows where it is missing; `None` where it is nowhere (outcomes never are).
    pub missing: &'a [Option<&'a [bool]>],
    /// The hash of each row's unit, for summaries that are keyed by unit.
    pub units: &'a [u128],
    /// The stratum of each row, for summaries by stratum.
    pub strata: Strata<'a>,
}

/// Many summaries of one kind, one per slot, fed a batch at a time.
pub trait Table: Send + Sync + std::fmt::Debug {
    /// The summary of one slot.
    type Summary: Summary;

    /// Makes it `slots` slots; new ones are empty.
    fn resize(&mut self, slots: usize);
    /// Adds rows to their slots.
    fn update(&mut self, rows: Rows<'_>);
    /// Adds a summary to a slot.
    ///
    /// # Errors
    /// As [`Summary::merge`].
    fn merge(&mut self, slot: usize, summary: &Self::Summary) -> Result<()>;
    /// The summary of a slot.
    fn get(&self, slot: usize) -> Self::Summary;
    /// Removes the first `n` slots; the others move down.
    fn drop_first(&mut self, n: usize);
    /// Bytes held.
    fn size(&self) -> usize;
}
