//! The mathematics of Gosset: mergeable summaries, comparisons of two summaries, exact sums and resampling weights.
//!
//! Everything is a [`Summary`] that merges and a comparison that is a pure function of two summaries:
//!
//! ```text
//! rows ──update──▶ Summary ──merge──▶ Summary ──▶ compare(treatment, control) ──▶ Effect
//! ```
//!
//! The crate knows nothing of Arrow, SQL, files or threads. Its numbers are the same bits on every machine, in every
//! order and under every split of the rows, because the sums inside the summaries are exact (see [`exact`]).

pub mod compare;
pub mod dist;
mod double_double;
mod error;
pub mod exact;
mod inference;
mod linalg;
pub mod linear;
mod resample;
pub mod summary;
pub mod units;
pub mod weights;
mod wide;

pub use compare::effect::Effect;
pub use error::{Error, Result};
pub use inference::{Alternative, Inference, Relative};
pub use summary::{Kind, Summary};
