//! A cluster of processes on this machine, for tests that use one as people do.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::binary::gosset_binary;

/// How long a part may take to be ready; builds without optimisation start slowly on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// A scheduler and executors. They are killed when it is dropped; what they said is told if a test failed.
#[derive(Debug)]
pub struct Processes {
    folder: TempDir,
    /// What every part is told.
    arguments: Vec<String>,
    /// What the scheduler is told beside it.
    of_scheduler: Vec<String>,
    /// Where the scheduler listens, and executors that run beside it.
    host: String,
    started: usize,
    /// The scheduler.
    pub scheduler: Part,
    /// The executors, in the order in which they were started.
    pub executors: Vec<Part>,
}

impl Processes {
    /// A scheduler and some executors of some slots each, ready to run queries.
    pub fn start(executors: usize, slots: usize) -> Self {
        Self::start_with(executors, slots, &[])
    }

    /// The same with more arguments for each of them.
    pub fn start_with(executors: usize, slots: usize, arguments: &[&str]) -> Self {
        let mut cluster = Self::of_scheduler("127.0.0.1", arguments, &[]);
        for _ in 0..executors {
            cluster.add_executor(slots, &[]);
        }
        cluster.wait_for(executors);
        cluster
    }

    /// A scheduler alone, which gives executors and clients up soon, on an address.
    pub fn start_impatient(host: &str, arguments: &[&str]) -> Self {
        let soon = ["--executor-timeout", "6", "--client-timeout", "5"];
        Self::of_scheduler(host, arguments, &soon)
    }

    fn of_scheduler(host: &str, all: &[&str], of_scheduler: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (arguments, of_scheduler) = (owned(all), owned(of_scheduler));
        let command = scheduler_command(&format!("{host}:0"), &arguments, &of_scheduler);
        let scheduler = Part::start(&log(&folder, "scheduler", 0), &[], &command);
        let host = host.to_owned();
        Self { folder, arguments, of_scheduler, host, started: 0, scheduler, executors: vec![] }
    }

    /// Where clients go.
    pub fn url(&self) -> String {
        format!("df://{}", self.scheduler.address)
    }

    /// A folder that ends with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The work directory of all executors.
    pub fn work_dir(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Starts another executor.
    pub fn add_executor(&mut self, slots: usize, arguments: &[&str]) -> &Part {
        let host = self.host.clone();
        self.add_executor_within(&[], &host, slots, arguments)
    }

    /// Starts another executor on an address, by a command that runs it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn add_executor_within(
        &mut self,
        within: &[&str],
        host: &str,
        slots: usize,
        arguments: &[&str],
    ) -> &Part {
        self.started += 1;
        let (scheduler, at) = (self.scheduler.address.to_string(), format!("{host}:0"));
        let (slots, work) = (slots.to_string(), self.work_dir().display().to_string());
        let mut command = vec!["executor", "--scheduler", &scheduler, "--listen", &at];
        command.extend(["--http", &at, "--slots", &slots]);
        if !arguments.contains(&"--work-dir") {
            command.extend(["--work-dir", &work]);
        }
        command.extend(self.arguments.iter().map(String::as_str));
        command.extend(arguments);
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        let part = Part::start(&log(&self.folder, "executor", self.started), within, &command);
        self.executors.push(part);
        self.executors.last().expect("one was added")
    }

    /// Starts the scheduler again where it was.
    pub fn restart_scheduler(&mut self) {
        let at = self.scheduler.address.to_string();
        self.scheduler.kill();
        self.started += 1;
        let log = log(&self.folder, "scheduler", self.started);
        let command = scheduler_command(&at, &self.arguments, &self.of_scheduler);
        self.scheduler = Part::start(&log, &[], &command);
    }

    /// Waits until so many executors are known to the scheduler.
    ///
    /// # Panics
    /// If they do not come.
    pub fn wait_for(&self, executors: usize) {
        let wanted = format!("gosset_executors {executors}\n");
        let started = Instant::now();
        while !self.scheduler.get("/metrics").is_ok_and(|(_, body)| body.contains(&wanted)) {
            assert!(started.elapsed() < READY, "expected {executors} executors");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn scheduler_command(at: &str, all: &[String], own: &[String]) -> Vec<String> {
    let http = format!("{}:0", at.rsplit_once(':').map_or(at, |(host, _)| host));
    let command = ["scheduler", "--listen", at, "--http", &http];
    command.iter().map(|&word| word.into()).chain(all.iter().chain(own).cloned()).collect()
}

fn log(folder: &TempDir, part: &str, number: usize) -> PathBuf {
    folder.path().join(format!("{part}-{number}.log"))
}

/// A process of a cluster.
#[derive(Debug)]
pub struct Part {
    child: Child,
    log: PathBuf,
    /// Where others find it.
    pub address: SocketAddr,
    /// Where it tells of its health.
    pub http: SocketAddr,
}

impl Part {
    fn start(log: &Path, within: &[&str], arguments: &[String]) -> Self {
        let file = std::fs::File::create(log).expect("a log file");
        let mut command = match within {
            [] => Command::new(gosset_binary()),
            [program, words @ ..] => {
                let mut command = Command::new(program);
                command.args(words).arg(gosset_binary());
                command
            }
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("gosset starts");
        let started = Instant::now();
        loop {
            let told = std::fs::read_to_string(log).unwrap_or_default();
            if let Some((address, http)) = addresses(&told) {
                return Self { child, log: log.to_owned(), address, http };
            }
            let ended = child.try_wait().expect("a process of ours");
            if ended.is_some() || started.elapsed() > READY {
                let _ = child.kill();
                panic!("{arguments:?} did not start ({ended:?}): {told}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it said on standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it over HTTP; the status and the body.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let answer = std::io::read_to_string(stream)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.unwrap_or(0), body.to_owned()))
    }

    /// The number that a metric has.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").ok()?;
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A signal by its name, such as `TERM`, `STOP` or `CONT`.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Waits until it ends by itself.
    pub fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < time {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.said());
        }
    }
}

fn addresses(told: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = told.split_once("listening on ")?;
    let (line, _) = rest.split_once('\n')?;
    let (address, http) = line.split_once(", health and metrics on ")?;
    Some((address.trim().parse().ok()?, http.trim().parse().ok()?))
}
