//! The commands, one file each.

pub(crate) mod completions;
pub(crate) mod functions;
pub(crate) mod sql;
