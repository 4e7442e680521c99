//! Jobs: a job file → a plan → summaries → effects → an atomic publish.
//!
//! A [`Job`] is a checked job file. A [`Runner`] reads what is new of the sources and keeps it as unit-days, plans what is
//! desired and not published, makes units of days (or of rows, where a job has one period), summaries of units in as many
//! aggregations as memory asks for, audits and effects of summaries, and publishes them as Delta tables. Running again
//! publishes nothing.

mod analyse;
mod assigned;
mod audit;
mod calibrate;
mod caps;
mod checks;
mod compute;
mod days;
pub mod demo;
mod descriptor;
mod effects;
mod erase;
mod error;
mod estimators;
mod expression;
pub mod file;
mod history;
mod job;
mod kept;
mod looked;
mod period;
mod plan;
mod publish;
mod restore;
mod run;
mod second_pass;
mod stored;
mod summaries;
mod tables;
mod time;
mod totals;
mod unaffected;
mod units;
mod vacuum;
mod verify;
mod waves;

pub use audit::{Audit, AuditKind, Rule};
pub use calibrate::{Calibrated, Calibration};
pub use caps::{Cap, Capped};
pub use days::{DuePart, UNIT_DAYS};
pub use descriptor::{Descriptor, Input};
pub use effects::EffectRow;
pub use erase::{Erased, units_of};
pub(crate) use error::internal;
pub use error::{JobError, Result};
pub use history::Change;
pub use job::{Assignments, Experiment, Job, Measure, Metric, Source};
pub use period::Period;
pub use plan::{Asked, Plan, PublishedResults, Results, State, Way, Work};
pub use restore::{Moment, Restored};
pub use run::{Event, Outcome, Place, Runner};
pub use tables::{AUDITS, EFFECTS, PARTITION, SUMMARIES, audits_schema, effects_schema};
pub use units::Base;
pub use vacuum::Vacuum;
pub use verify::Verified;
pub use waves::Waves;
