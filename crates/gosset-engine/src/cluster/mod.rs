//! A cluster: Apache Ballista with the functions, stores and limits of a local session.
//!
//! A client sends the physical plan of a query, with names of functions and files; the scheduler cuts it into stages and hands their
//! tasks to executors, which ask for them; executors fetch one another's shuffle files, and the client the result. All of
//! them are one binary, and refuse others.

mod build;
mod client;
mod codec;
mod executor;
mod http;
mod planner;
mod ports;
mod report;
mod scheduler;
mod security;
mod session;
mod shares;
mod stages;
mod status;
mod work;
mod written;

pub use client::Cluster;
pub(crate) use client::OnCluster;
pub use executor::{Executor, ExecutorOptions};
pub use scheduler::{Scheduler, SchedulerOptions};
pub use security::Security;
pub use status::{ExecutorStatus, JobStatus, Status};

/// Two implementations of TLS's algorithms are linked; one has to be chosen before the first connection.
fn use_one_cryptography() {
    // Chosen before: that is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::build::Build;
    use super::*;
    use crate::{Engine, EngineError, EngineOptions};

    async fn scheduler() -> Scheduler {
        let options = SchedulerOptions {
            listen: "127.0.0.1:0".parse().expect("an address"),
            http: None,
            executor_timeout: Duration::from_secs(15),
            client_timeout: Duration::from_secs(30),
            security: Security::new(),
        };
        Scheduler::bind(options).await.expect("a scheduler")
    }

    #[tokio::test]
    async fn another_build_is_refused_at_once() {
        let scheduler = scheduler().await;
        let at = scheduler.address().expect("an address");
        let serving = tokio::spawn(scheduler.run(std::future::pending()));
        let (this, other) = (Build::this(), Build::other());
        let refused = |part: &str| {
            EngineError::Setup(format!(
                "the scheduler is {this}, the {part} is {other}: all parts of a cluster must be of one build"
            ))
        };

        let client = Cluster::new(&format!("df://{at}"), Security::new()).expect("an address");
        let client = client.of_build(other.clone());
        assert_eq!(client.connect().await.expect_err("refused"), refused("client"));
        // A query that nobody asked before is refused in the same words.
        let engine = Engine::new(EngineOptions::new().with_cluster(client)).expect("an engine");
        let rows = engine.sql("SELECT 1").await.expect("a plan").collect().await;
        assert_eq!(EngineError::from(rows.expect_err("refused")), refused("client"));

        let folder = tempfile::tempdir().expect("a folder");
        let options = ExecutorOptions {
            scheduler: at.to_string(),
            listen: "127.0.0.1:0".parse().expect("an address"),
            advertise: None,
            http: None,
            slots: 1,
            work_dir: folder.path().to_owned(),
            drain: Duration::ZERO,
            patience: Duration::from_secs(5),
            security: Security::new(),
            engine: EngineOptions::new(),
        };
        let executor = Executor::of_build(options.clone(), other.clone()).await;
        assert_eq!(executor.expect_err("refused"), refused("executor"));
        Executor::bind(options).await.expect("one of this build");
        serving.abort();
    }

    #[tokio::test]
    async fn who_is_not_there_is_waited_for_and_told() {
        let scheduler = scheduler().await;
        let at = scheduler.address().expect("an address");
        let cluster = Cluster::new(&format!("df://{at}"), Security::new()).expect("an address");
        let cluster = cluster.with_patience(Duration::from_millis(400));
        let missing = |error: EngineError| match error {
            EngineError::StoreUnavailable(text) => text,
            other => panic!("{other:?}"),
        };
        let serving = tokio::spawn(scheduler.run(std::future::pending()));
        let told = missing(cluster.connect().await.expect_err("no executor"));
        assert_eq!(told, format!("the cluster at df://{at} has no executor"));
        serving.abort();
        // The task is over when the port is free again.
        let _ = serving.await;
        let told = missing(cluster.connect().await.expect_err("no scheduler"));
        assert!(told.starts_with(&format!("no answer from {at}: ")), "{told}");
    }
}
