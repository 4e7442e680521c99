//! A summary whose kind is known only when its bytes are read.

use super::{
    BinnedMoments, Buckets, Counts, Gram, Histogram, Kind, Moments, Replicates, StratifiedMoments,
    Summary, Totals, kind_of,
};
use crate::{Error, Result};

/// A stored summary of any kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AnySummary {
    /// See [`Moments`].
    Moments(Moments),
    /// See [`Buckets`].
    Buckets(Buckets),
    /// See [`Counts`].
    Counts(Counts),
    /// See [`Totals`].
    Totals(Totals),
    /// See [`Replicates`].
    Replicates(Replicates),
    /// See [`Histogram`].
    Histogram(Histogram),
    /// See [`Gram`].
    Gram(Gram),
    /// See [`StratifiedMoments`].
    StratifiedMoments(StratifiedMoments),
    /// See [`BinnedMoments`].
    BinnedMoments(BinnedMoments),
}

impl AnySummary {
    /// Reads a summary of any kind.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Mismatch`] as [`Summary::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(match kind_of(bytes)? {
            Kind::Moments => Self::Moments(Moments::decode(bytes)?),
            Kind::Buckets => Self::Buckets(Buckets::decode(bytes)?),
            Kind::Counts => Self::Counts(Counts::decode(bytes)?),
            Kind::Totals => Self::Totals(Totals::decode(bytes)?),
            Kind::Replicates => Self::Replicates(Replicates::decode(bytes)?),
            Kind::Histogram => Self::Histogram(Histogram::decode(bytes)?),
            Kind::Gram => Self::Gram(Gram::decode(bytes)?),
            Kind::StratifiedMoments => Self::StratifiedMoments(StratifiedMoments::decode(bytes)?),
            Kind::BinnedMoments => Self::BinnedMoments(BinnedMoments::decode(bytes)?),
        })
    }

    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Moments(s) => s.encode(),
            Self::Buckets(s) => s.encode(),
            Self::Counts(s) => s.encode(),
            Self::Totals(s) => s.encode(),
            Self::Replicates(s) => s.encode(),
            Self::Histogram(s) => s.encode(),
            Self::Gram(s) => s.encode(),
            Self::StratifiedMoments(s) => s.encode(),
            Self::BinnedMoments(s) => s.encode(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Moments(_) => Kind::Moments,
            Self::Buckets(_) => Kind::Buckets,
            Self::Counts(_) => Kind::Counts,
            Self::Totals(_) => Kind::Totals,
            Self::Replicates(_) => Kind::Replicates,
            Self::Histogram(_) => Kind::Histogram,
            Self::Gram(_) => Kind::Gram,
            Self::StratifiedMoments(_) => Kind::StratifiedMoments,
            Self::BinnedMoments(_) => Kind::BinnedMoments,
        }
    }

    /// Adds the rows of another summary of the same kind.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another kind, columns or parameters.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        match (self, other) {
            (Self::Moments(a), Self::Moments(b)) => a.merge(b),
            (Self::Buckets(a), Self::Buckets(b)) => a.merge(b),
            (Self::Counts(a), Self::Counts(b)) => a.merge(b),
            (Self::Totals(a), Self::Totals(b)) => a.merge(b),
            (Self::Replicates(a), Self::Replicates(b)) => a.merge(b),
            (Self::Histogram(a), Self::Histogram(b)) => a.merge(b),
            (Self::Gram(a), Self::Gram(b)) => a.merge(b),
            (Self::StratifiedMoments(a), Self::StratifiedMoments(b)) => a.merge(b),
            (Self::BinnedMoments(a), Self::BinnedMoments(b)) => a.merge(b),
            (a, b) => Err(Error::Mismatch(format!(
                "summaries of different kinds do not merge: expected '{}', found '{}'",
                a.kind().name(),
                b.kind().name()
            ))),
        }
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        match self {
            Self::Moments(s) => s.heap_size(),
            Self::Buckets(s) => s.heap_size(),
            Self::Counts(s) => s.heap_size(),
            Self::Totals(s) => s.sum.heap_size(),
            Self::Replicates(s) => s.heap_size(),
            Self::Histogram(s) => s.heap_size(),
            Self::Gram(s) => s.heap_size(),
            Self::StratifiedMoments(s) => s.heap_size(),
            Self::BinnedMoments(s) => s.heap_size(),
        }
    }
}
