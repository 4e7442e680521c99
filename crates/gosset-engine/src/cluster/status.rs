//! What a cluster is doing, as the scheduler tells it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where the scheduler answers, on the port that it has for everything.
pub(crate) const PATH: &str = "/gosset/status";

/// A cluster at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The version of all its parts.
    pub version: String,
    /// A hash of their functions.
    pub functions: String,
    /// Executors that were heard of lately.
    pub executors: Vec<ExecutorStatus>,
    /// Queries that wait, run, or ended lately, the oldest first.
    pub jobs: Vec<JobStatus>,
}

impl Status {
    /// How many tasks can run at once.
    pub fn slots(&self) -> usize {
        self.executors.iter().map(|executor| executor.slots).sum()
    }
}

/// An executor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecutorStatus {
    /// Its name.
    pub id: String,
    /// Where others fetch shuffle data from it.
    pub address: String,
    /// How many tasks it runs at once.
    pub slots: usize,
    /// Seconds since it was heard of.
    pub heard_seconds_ago: u64,
}

/// A query on the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// The scheduler's name for it.
    pub id: String,
    /// Who asks: what the client calls itself, and a number that no other has.
    pub client: String,
    /// The client's name for it.
    pub name: String,
    /// `queued`, `running`, `done` or `failed`.
    pub state: String,
    /// Seconds since it started, or that it took.
    pub seconds: f64,
    /// Stages: parts between shuffles.
    pub stages: usize,
    /// Of them, those that are done.
    pub stages_done: usize,
    /// Partitions of the stages that are known; each is the work of one task.
    pub tasks: usize,
    /// Of them, those that are done.
    pub tasks_done: usize,
    /// Rows that finished tasks have read from the inputs.
    pub rows: u64,
}

impl JobStatus {
    /// Whether it ended, one way or the other.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed")
    }
}

/// The client in a name that [`name_of`] made.
pub(crate) fn client_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(client, _)| client)
}

/// What a client calls one of its queries.
pub(crate) fn name_of(client: &str) -> String {
    format!("{client}.{}", Uuid::new_v4().simple())
}

/// A client that is called so, in characters that need no quotes anywhere.
pub(crate) fn client(called: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let number = Uuid::new_v4().simple().to_string();
    format!("{}-{}", called.chars().map(plain).take(60).collect::<String>(), &number[..8])
}
