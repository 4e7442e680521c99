//! Job files, plans, audits and atomic publishing of experiment results.
