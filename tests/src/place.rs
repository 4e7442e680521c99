//! A folder where jobs run as their users run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::gosset_binary;
use crate::table::Table;

/// How the program ended and what it said.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its exit code; 128 and the number of the signal that killed it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            status: output.status.code().or(signal).expect("it ended"),
            stdout: String::from_utf8(output.stdout).expect("output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("output is UTF-8"),
        }
    }
}

impl Run {
    /// Asserts the exit code.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn ended(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts what standard error says, without a word of the layers below.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn told(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected '{text}', found: {}", self.stderr);
        for noise in [
            "Error during planning",
            "Execution error",
            "External error",
            "Internal error",
            "backtrace",
            "panicked",
            "DataFusion",
        ] {
            assert!(!self.stderr.contains(noise), "'{noise}' in: {}", self.stderr);
        }
        self
    }

    /// Asserts what standard output says.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn printed(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "expected '{text}', found: {}", self.stdout);
        self
    }
}

/// A temporary folder, which is the working directory of what runs there.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }
}

impl Place {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The path of a name in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of text, and the folders it is in.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.made(name), text).expect("a file");
    }

    /// Writes a Parquet file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn parquet(&self, name: &str, columns: Vec<(&str, ArrayRef)>) {
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .expect("columns of one length");
        let file = fs::File::create(self.made(name)).expect("a file");
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("a writer");
        writer.write(&rows).expect("rows");
        writer.close().expect("a footer");
    }

    fn made(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        path
    }

    /// The program with arguments, not started.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(gosset_binary());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("GOSSET_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// If it does not start.
    pub fn gosset(&self, arguments: &[&str]) -> Run {
        self.program(arguments).output().expect("it starts").into()
    }

    /// What a query gives as CSV, with more arguments of `gosset sql`.
    ///
    /// # Panics
    /// If it fails.
    pub fn asked(&self, query: &str, more: &[&str]) -> String {
        let run = self.gosset(&[&["sql", "--format", "csv", "-c", query], more].concat());
        assert_eq!(run.status, 0, "{query}: {}", run.stderr);
        run.stdout
    }

    /// Writes `job.toml` and runs it.
    pub fn run(&self, job: &str) -> Run {
        self.write("job.toml", job);
        self.gosset(&["run", "job.toml"])
    }

    /// What is published, of a job whose store is `results`.
    pub fn effects(&self) -> Table {
        self.table("effects")
    }

    /// The audits of what is published.
    pub fn audits(&self) -> Table {
        self.table("audits")
    }

    /// A table of the store as a reader sees it now; empty where there is none yet.
    pub fn table(&self, name: &str) -> Table {
        match self.version(name) {
            Some(_) => Table::read(&self.path("results").join(name)),
            None => Table::default(),
        }
    }

    /// The files of the newest version of a table, as its log names them.
    ///
    /// # Panics
    /// If the log cannot be read.
    pub fn files(&self, table: &str) -> Vec<String> {
        let log = self.path("results").join(table).join("_delta_log");
        let mut all: Vec<u64> = versions(&log).collect();
        all.sort_unstable();
        let mut files = Vec::new();
        for version in all {
            let entry = log.join(format!("{version:020}.json"));
            for line in fs::read_to_string(entry).expect("an entry").lines() {
                let action: serde_json::Value = serde_json::from_str(line).expect("an action");
                let path = |kind: &str| action[kind]["path"].as_str().map(ToOwned::to_owned);
                files.extend(path("add"));
                if let Some(removed) = path("remove") {
                    files.retain(|file| *file != removed);
                }
            }
        }
        files
    }

    /// The newest version of a table; none where there is no table.
    pub fn version(&self, table: &str) -> Option<u64> {
        let log = self.path("results").join(table).join("_delta_log");
        versions(&log).max()
    }
}

fn versions(log: &Path) -> impl Iterator<Item = u64> {
    let entries = fs::read_dir(log).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        entry.file_name().to_str()?.strip_suffix(".json").and_then(|version| version.parse().ok())
    })
}
