//! Jobs: a job file → a plan → summaries → effects → an atomic publish.
//!
//! A [`Job`] is a checked job file. A [`Runner`] plans what is desired and not published, makes units of rows in one
//! pass over each source, summaries of units in one aggregation, audits and effects of summaries, and publishes them as
//! Delta tables. Running again publishes nothing.

mod audit;
mod checks;
pub mod demo;
mod descriptor;
mod effects;
mod error;
mod expression;
pub mod file;
mod job;
mod plan;
mod run;
mod summaries;
mod tables;
mod time;
mod units;

pub use audit::{Audit, AuditKind, Rule};
pub use descriptor::{Descriptor, Input};
pub use effects::EffectRow;
pub use error::{JobError, Result};
pub use job::{Assignments, Estimator, Experiment, Job, Measure, Metric, Source};
pub use plan::{Plan, PublishedResults, Results, State, Work};
pub use run::{Event, Outcome, Runner};
pub use tables::{AUDITS, EFFECTS, PARTITION, audits_schema, effects_schema};
