//! Aggregation by many groups, a cache full of them at a time.
//!
//! The table of a `GROUP BY` over millions of units does not fit into a cache: each row waits for memory once for its
//! key and once for every aggregate. Here rows are first dealt out by the hash of their keys to so many parts that the
//! groups of one fit, and the parts are aggregated one after the other. The aggregation of a part is DataFusion's own, with
//! its functions, filters and spilling.
//!
//! Whether there are many groups is seen in the first rows. Where there are few, the aggregation goes as DataFusion
//! planned it: each partition for itself, and then together.
//!
//! The rows of all parts wait until all are read, in memory and beyond it in files: a part is aggregated at once. What has few
//! groups after all, or can have no files, is aggregated in rounds as it comes.
//!
//! Functions that draw weights of units for replicates have their rows dealt out in the same way (`units`): the rows of a
//! unit that follow each other are added up before they are weighted.
//!
//! The method is the radix partitioning of Manegold, Boncz and Kersten, "Optimizing main-memory join on modern hardware"
//! (IEEE TKDE 14, 2002), for aggregation.

mod dealt;
mod exchange;
mod exec;
mod leaf;
mod memory;
mod parts;
mod round;
mod rule;
mod spill;
mod units;
mod waiting;

pub(crate) use rule::RadixAggregation;
