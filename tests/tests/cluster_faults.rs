//! What a cluster survives: every query has the bits of a local session, or fails with the reason in bounded time.
//!
//! An executor that says nothing is given up after 6 seconds here (15 unless told), so that the tests do not wait.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use gosset_engine::cluster::{Cluster, JobStatus, Security};
use gosset_engine::{Engine, EngineError, EngineOptions, Result};
use gosset_tests::bits::bits;
use gosset_tests::cluster::{Part, Processes};
use gosset_tests::gosset_binary;
use tokio::task::JoinHandle;

/// Time that every one of these queries takes at most, whatever happens to the cluster.
const BOUND: Duration = Duration::from_secs(120);
const FILES: i64 = 8;

/// Executors of one slot each, and rows in files.
struct Scene {
    cluster: Processes,
    security: Security,
    sql: String,
    expected: Vec<RecordBatch>,
}

impl Scene {
    async fn new(executors: usize) -> Self {
        let cluster = Processes::start_impatient("127.0.0.1", &[]);
        let mut scene = Self::of(cluster, Security::new()).await;
        for _ in 0..executors {
            scene.cluster.add_executor(1, &["--drain", "15"]);
        }
        scene.cluster.wait_for(executors);
        scene
    }

    /// Without executors.
    async fn of(cluster: Processes, security: Security) -> Self {
        let folder = cluster.folder().join("rows");
        let here = Engine::new(EngineOptions::new()).unwrap();
        for file in 0..FILES {
            let rows = format!(
                "COPY (SELECT i % 5000 AS unit, i * i % 97 + {file} AS y, CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END AS arm, \
                 i % 3 AS grp FROM generate_series(1, 40000) AS s (i)) TO '{}/{file}.parquet' STORED AS PARQUET",
                folder.display()
            );
            here.sql(&rows).await.unwrap().collect().await.unwrap();
        }
        let sql = format!(
            "SELECT grp, count(*) AS n, bootstrap_mean(y, arm, unit, {{treatment: 'a', control: 'b', method: 'poisson', \
             replicates: 4000}}) AS e FROM '{}/' GROUP BY grp",
            folder.display()
        );
        let expected = here.sql(&sql).await.unwrap().collect().await.unwrap();
        Self { cluster, security, sql, expected }
    }

    fn place(&self) -> Cluster {
        Cluster::new(&self.cluster.url(), self.security.clone())
            .unwrap()
            .with_patience(Duration::from_secs(30))
    }

    /// Starts the query.
    fn query(&self) -> JoinHandle<Result<Vec<RecordBatch>>> {
        let options = EngineOptions::new().with_cluster(self.place()).with_target_partitions(8);
        let sql = self.sql.clone();
        tokio::spawn(async move {
            let engine = Engine::new(options)?;
            Ok(engine.sql(&sql).await?.collect().await?)
        })
    }

    /// The result of the query; it is there in time.
    async fn result(
        &self,
        query: JoinHandle<Result<Vec<RecordBatch>>>,
    ) -> Result<Vec<RecordBatch>> {
        tokio::time::timeout(BOUND, query).await.expect("the query ends in time").unwrap()
    }

    async fn gives_the_same_bits(&self, query: JoinHandle<Result<Vec<RecordBatch>>>) {
        let rows = self.result(query).await.unwrap();
        assert_eq!(bits(&rows), bits(&self.expected));
    }

    /// The query that runs.
    async fn job(&self) -> Option<JobStatus> {
        let status = self.place().status().await.ok()?;
        status.jobs.into_iter().rev().find(|job| job.state == "running")
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < BOUND, "never {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tasks(part: &Part) -> f64 {
    part.metric("gosset_executor_tasks_running").unwrap_or(0.0)
}

fn ended(part: &Part) -> f64 {
    part.metric("gosset_executor_tasks_total").unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_is_killed_before_its_first_task() {
    let mut scene = Scene::new(2).await;
    scene.cluster.executors[0].kill();
    let query = scene.query();
    scene.gives_the_same_bits(query).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_is_killed_while_it_writes() {
    let mut scene = Scene::new(2).await;
    let query = scene.query();
    until("a task ran", async || tasks(&scene.cluster.executors[0]) > 0.0).await;
    let killed = Instant::now();
    scene.cluster.executors[0].kill();
    assert!(!query.is_finished());
    scene.gives_the_same_bits(query).await;
    let recovered = killed.elapsed();
    assert!(recovered < Duration::from_secs(60), "it took {recovered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_is_killed_after_it_wrote() {
    let mut scene = Scene::new(2).await;
    let query = scene.query();
    until("a task ended", async || ended(&scene.cluster.executors[0]) > 0.0).await;
    scene.cluster.executors[0].kill();
    assert!(!query.is_finished());
    scene.gives_the_same_bits(query).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_executors_are_killed_and_others_come() {
    let mut scene = Scene::new(2).await;
    let query = scene.query();
    until("a task ended", async || ended(&scene.cluster.executors[0]) > 0.0).await;
    scene.cluster.executors.iter_mut().for_each(Part::kill);
    assert!(!query.is_finished());
    scene.cluster.executors.clear();
    scene.cluster.add_executor(1, &[]);
    scene.gives_the_same_bits(query).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_executor_comes_back() {
    let mut scene = Scene::new(1).await;
    let query = scene.query();
    until("a task ran", async || tasks(&scene.cluster.executors[0]) > 0.0).await;
    scene.cluster.executors[0].kill();
    let error = scene.result(query).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::StoreUnavailable(why) if why.contains("no executor")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler_is_killed_and_comes_back() {
    let mut scene = Scene::new(2).await;
    let query = scene.query();
    until("a task ran", async || scene.job().await.is_some_and(|job| job.tasks > 0)).await;
    scene.cluster.restart_scheduler();
    assert!(!query.is_finished());
    scene.gives_the_same_bits(query).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler_does_not_come_back() {
    let mut scene = Scene::new(1).await;
    let query = scene.query();
    until("a task ran", async || scene.job().await.is_some_and(|job| job.tasks > 0)).await;
    scene.cluster.scheduler.kill();
    let error = scene.result(query).await.unwrap_err();
    assert!(matches!(error, EngineError::StoreUnavailable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_stands_still_and_goes_on() {
    let scene = Scene::new(2).await;
    let query = scene.query();
    let still = &scene.cluster.executors[0];
    until("a task ran", async || tasks(still) > 0.0).await;
    still.signal("STOP");
    assert!(!query.is_finished());
    scene.gives_the_same_bits(query).await;
    still.signal("CONT");
    // What it did meanwhile is of a query that is over.
    scene.cluster.wait_for(2);
    scene.gives_the_same_bits(scene.query()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_is_drained() {
    let mut scene = Scene::new(2).await;
    let query = scene.query();
    until("a task ran", async || tasks(&scene.cluster.executors[0]) > 0.0).await;
    scene.cluster.executors[0].signal("TERM");
    until("it drains", async || {
        scene.cluster.executors[0].get("/readyz").is_ok_and(|(status, _)| status == 503)
    })
    .await;
    scene.gives_the_same_bits(query).await;
    let status = scene.cluster.executors[0].ended_within(BOUND);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert!(!scene.cluster.executors[0].said().contains("did not end in time"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_directories_are_cleaned() {
    let mut scene = Scene::new(2).await;
    let folders = |work: &Path| std::fs::read_dir(work).unwrap().count();
    let work = scene.cluster.work_dir();
    assert_eq!(folders(&work), 2);
    // A killed one leaves its folder to the next that starts there.
    scene.cluster.executors[0].kill();
    assert_eq!(folders(&work), 2);
    scene.cluster.add_executor(1, &[]);
    assert_eq!(folders(&work), 2);
    for part in &mut scene.cluster.executors[1..] {
        part.signal("TERM");
        let status = part.ended_within(BOUND);
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
    assert_eq!(folders(&work), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ends_stops_its_query() {
    let scene = Scene::new(1).await;
    let url = scene.cluster.url();
    let sql = scene.sql.replace("replicates: 4000", "replicates: 40000");
    let mut client = Command::new(gosset_binary())
        .args(["sql", "--cluster", &url, "-c", &sql])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let executor = &scene.cluster.executors[0];
    until("a task ran", async || tasks(executor) > 0.0).await;
    assert!(succeeds(&["kill", "-INT", &client.id().to_string()]));
    assert_eq!(client.wait().unwrap().code(), Some(130));
    until("no task runs", async || tasks(executor) == 0.0).await;
    assert_eq!(scene.cluster.scheduler.metric("gosset_queries_stopped_total"), Some(1.0));
    // What it left is deleted when the scheduler says so, and results when they are read.
    scene.gives_the_same_bits(scene.query()).await;
    let work = scene.cluster.work_dir();
    let executor = std::fs::read_dir(work).unwrap().next().unwrap().unwrap().path();
    until("nothing is left", async || {
        std::fs::read_dir(executor.join("shuffle")).unwrap().next().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_too_small() {
    let mut scene = Scene::new(0).await;
    scene.sql = scene.sql.replace("replicates: 4000", "replicates: 40000");
    scene.cluster.add_executor(1, &["--memory-limit", "64KB"]);
    scene.cluster.wait_for(1);
    let error = scene.result(scene.query()).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::MemoryLimit(why) if why.starts_with("the memory limit of 64.0 KB is too small")),
        "{error:?}"
    );
}

/// Runs a command; whether it succeeded.
fn succeeds(command: &[&str]) -> bool {
    Command::new(command[0])
        .args(&command[1..])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A file system of its own that holds little.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let at = folder.to_str().unwrap();
        succeeds(&["mount", "-t", "tmpfs", "-o", "size=96k", "none", at])
            .then(|| Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        succeeds(&["umount", "-l", self.0.to_str().unwrap()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_disk_is_full() {
    let mut scene = Scene::new(0).await;
    let Some(disk) = SmallDisk::new(&scene.cluster.folder().join("small")) else {
        eprintln!("not tested: mounting a small file system is not allowed here");
        return;
    };
    scene.cluster.add_executor(1, &["--work-dir", disk.0.to_str().unwrap()]);
    scene.cluster.wait_for(1);
    let error = scene.result(scene.query()).await.unwrap_err();
    assert!(matches!(error, EngineError::NoSpace(_)), "{error:?}");
    scene.cluster.executors.clear();
}

/// A host of its own: a namespace that is reached by one cable.
struct Host(String);

impl Host {
    const NEAR: &'static str = "10.213.71.1";
    const FAR: &'static str = "10.213.71.2";

    fn new() -> Option<Self> {
        let host = Self(format!("gosset{}", std::process::id()));
        let (near, far) = (host.near(), host.far());
        let commands: [&[&str]; 7] = [
            &["netns", "add", &host.0],
            &["link", "add", &near, "type", "veth", "peer", "name", &far],
            &["link", "set", &far, "netns", &host.0],
            &["addr", "add", &format!("{}/24", Self::NEAR), "dev", &near],
            &["link", "set", &near, "up"],
            &["-n", &host.0, "addr", "add", &format!("{}/24", Self::FAR), "dev", &far],
            &["-n", &host.0, "link", "set", &far, "up"],
        ];
        commands.iter().all(|command| host.ip(command)).then_some(host)
    }

    fn near(&self) -> String {
        format!("{}n", self.0)
    }

    fn far(&self) -> String {
        format!("{}f", self.0)
    }

    fn ip(&self, command: &[&str]) -> bool {
        succeeds(&[&["ip"], command].concat())
    }

    fn cable(&self, state: &str) {
        assert!(self.ip(&["-n", &self.0, "link", "set", &self.far(), state]));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ip(&["link", "del", &self.near()]);
        self.ip(&["netns", "del", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_cut() {
    let Some(host) = Host::new() else {
        eprintln!("not tested: making network namespaces is not allowed here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret").unwrap();
    // The cable is of this machine: nothing else is on it.
    let beyond = ["--plaintext", "--token-file", token.to_str().unwrap()];
    let cluster = Processes::start_impatient(Host::NEAR, &beyond);
    let mut scene = Scene::of(cluster, Security::new().with_token("s3cret").unwrap()).await;
    scene.cluster.add_executor(1, &[]);
    let within = ["ip", "netns", "exec", &host.0];
    scene.cluster.add_executor_within(&within, Host::FAR, 1, &[]);
    scene.cluster.wait_for(2);
    let query = scene.query();
    until("a task ended", async || ended(&scene.cluster.executors[1]) > 0.0).await;
    host.cable("down");
    assert!(!query.is_finished());
    scene.gives_the_same_bits(query).await;
    host.cable("up");
    scene.cluster.wait_for(2);
    scene.gives_the_same_bits(scene.query()).await;
}

/// A client that is killed cannot say that it waits no more: the scheduler finds out, and stops its query.
#[tokio::test(flavor = "multi_thread")]
async fn the_query_of_a_client_that_is_killed_is_stopped() {
    let scene = Scene::new(1).await;
    let place = gosset_tests::place::Place::new();
    let url = scene.cluster.url();
    let command = ["sql", "--cluster", &url, "--partitions", "8", "-c", &scene.sql];
    // The query is not over before its client is missed.
    scene.cluster.executors[0].signal("STOP");
    let mut client = place.program(&command).spawn().unwrap();
    until("a query", async || scene.job().await.is_some()).await;
    client.kill().unwrap();
    client.wait().unwrap();
    until("an end of the query", async || {
        let jobs = scene.place().status().await.unwrap().jobs;
        jobs.iter().all(|job| job.state == "failed")
    })
    .await;
    let stopped = scene.cluster.scheduler.metric("gosset_queries_stopped_total");
    assert_eq!(stopped, Some(1.0));
}
