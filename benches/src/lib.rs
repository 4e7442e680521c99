//! Benchmarks of Gosset.
