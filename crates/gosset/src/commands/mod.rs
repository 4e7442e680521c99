//! The commands, one file each; those of a job share one.

pub(crate) mod calibrate;
#[cfg(feature = "cluster")]
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod functions;
pub(crate) mod job;
mod metrics;
pub(crate) mod sql;
pub(crate) mod upkeep;
