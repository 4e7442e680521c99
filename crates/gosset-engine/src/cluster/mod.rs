//! A cluster: Apache Ballista with the functions, stores and limits of a local session.
//!
//! A client sends the physical plan of a query, with names of functions and files; the scheduler cuts it into stages and hands their
//! tasks to executors, which ask for them; executors fetch one another's shuffle files, and the client the result. All of
//! them are one binary, and refuse others ([`build`]).

mod build;
mod client;
mod executor;
mod http;
mod planner;
mod report;
mod scheduler;
mod security;
mod session;
mod stages;
mod status;
mod work;

pub use client::Cluster;
pub use executor::{Executor, ExecutorOptions};
pub use scheduler::{Scheduler, SchedulerOptions};
pub use security::Security;
pub use status::{ExecutorStatus, JobStatus, Status};

/// Two implementations of TLS's algorithms are linked; one has to be chosen before the first connection.
fn use_one_cryptography() {
    // Chosen before: that is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
