//! `gosset sql`, `functions` and `completions`, as a person or a script runs them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use gosset_tests::gosset_binary;
use tempfile::TempDir;

const USAGE: i32 = 2;
const BAD_DATA: i32 = 65;
const MISSING_INPUT: i32 = 66;
const MEMORY: i32 = 71;
const SQL: i32 = 78;

struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("it ends by itself"),
            stdout: String::from_utf8(output.stdout).expect("output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("output is UTF-8"),
        }
    }
}

fn gosset(arguments: &[&str]) -> Command {
    let mut command = Command::new(gosset_binary());
    command.args(arguments).stdin(Stdio::null()).env_remove("GOSSET_LOG");
    command
}

fn run(arguments: &[&str]) -> Run {
    gosset(arguments).output().expect("it starts").into()
}

fn piped(arguments: &[&str], input: &str) -> Run {
    let mut child = gosset(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}

fn sql(query: &str) -> Run {
    run(&["sql", "--format", "csv", "-c", query])
}

fn succeeded(run: Run) -> String {
    assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    run.stdout
}

/// It ended with the status, said what it should on standard error alone, and nothing of the layers below.
fn failed(run: &Run, status: i32, message: &str) {
    assert_eq!(run.status, status, "{}", run.stderr);
    assert!(run.stderr.contains(message), "expected '{message}', found: {}", run.stderr);
    for noise in
        ["Error during planning", "Execution error", "External error", "backtrace", "DataFusion"]
    {
        assert!(!run.stderr.contains(noise), "'{noise}' in: {}", run.stderr);
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn statements_come_from_the_command_line_files_and_standard_input() {
    assert_eq!(succeeded(sql("SELECT 1 AS n; SELECT 'a;b' AS s -- c;\n;")), "n\n1\ns\na;b\n");
    let twice = run(&[
        "sql",
        "--format",
        "csv",
        "-c",
        "SET datafusion.execution.batch_size = 7",
        "-c",
        "SHOW datafusion.execution.batch_size",
    ]);
    assert!(succeeded(twice).ends_with("datafusion.execution.batch_size,7\n"));
    assert_eq!(succeeded(piped(&["sql", "--format", "csv"], "SELECT 2 AS n")), "n\n2\n");
    assert_eq!(
        succeeded(piped(&["sql", "-f", "-", "--format", "csv"], "SELECT 3 AS n;")),
        "n\n3\n"
    );
    let folder =
        folder(&[("a.sql", "CREATE VIEW v AS SELECT 4 AS n;"), ("b.sql", "SELECT * FROM v")]);
    let files = run(&[
        "sql",
        "-f",
        &path(&folder, "a.sql"),
        "-f",
        &path(&folder, "b.sql"),
        "--format",
        "csv",
    ]);
    assert_eq!(succeeded(files), "n\n4\n");
    assert_eq!(succeeded(piped(&["sql"], "")), "");
}

#[test]
fn every_format() {
    let query = "SELECT * FROM (VALUES (1, 'a|b', 0.5), (NULL, '', 1e300)) AS t(n, s, x)";
    let of = |format| succeeded(run(&["sql", "--format", format, "-c", query]));
    // CSV has no NULL: it is empty, as an empty string is.
    assert_eq!(of("csv"), "n,s,x\n1,a|b,0.5\n,,1e300\n");
    assert_eq!(
        of("json"),
        "[{\"n\":1,\"s\":\"a|b\",\"x\":0.5},{\"n\":null,\"s\":\"\",\"x\":1.0e300}]\n"
    );
    assert_eq!(of("ndjson").lines().count(), 2);
    assert_eq!(of("markdown").lines().nth(2), Some("| 1 | a\\|b | 0.5 |"));
    insta::assert_snapshot!(of("table"), @r###"
    ┌──────┬─────┬───────┐
    │    n ┆ s   ┆     x │
    ╞══════╪═════╪═══════╡
    │    1 ┆ a|b ┆   0.5 │
    │ NULL ┆     ┆ 1e300 │
    └──────┴─────┴───────┘
    "###);
}

#[test]
fn a_struct_has_a_line_for_each_field() {
    let table =
        succeeded(run(&["sql", "-c", "SELECT 'x' AS metric, {estimate: 0.5, p_value: NULL} AS e"]));
    insta::assert_snapshot!(table, @r###"
    ┌────────┬────────────────┐
    │ metric ┆ e              │
    ╞════════╪════════════════╡
    │ x      ┆ estimate  0.5  │
    │        ┆ p_value   NULL │
    └────────┴────────────────┘
    "###);
    assert_eq!(
        succeeded(sql("SELECT {estimate: 0.5, p_value: NULL} AS e")),
        "e\n\"{\"\"estimate\"\":0.5,\"\"p_value\"\":null}\"\n"
    );
}

#[test]
fn files_are_tables() {
    let folder = folder(&[("t.csv", "arm,y\na,1\nb,2\nb,\n"), ("t.ndjson", "{\"y\": 5}\n")]);
    let csv = path(&folder, "t.csv");
    assert_eq!(succeeded(sql(&format!("SELECT count(y) AS n FROM '{csv}'"))), "n\n2\n");
    let json = path(&folder, "t.ndjson");
    assert_eq!(succeeded(sql(&format!("SELECT y FROM '{json}'"))), "y\n5\n");
    let parquet = path(&folder, "t.parquet");
    let script = format!(
        "COPY (SELECT * FROM '{csv}') TO '{parquet}';
         CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{parquet}';
         SELECT sum(y) AS total FROM t WHERE arm = 'b'"
    );
    assert!(succeeded(sql(&script)).ends_with("total\n2\n"));
    // Relative to the working directory.
    let relative =
        gosset(&["sql", "--format", "csv", "-c", "SELECT count(*) AS n FROM 't.parquet'"])
            .current_dir(folder.path())
            .output()
            .expect("it starts");
    assert_eq!(succeeded(relative.into()), "n\n3\n");
}

#[test]
fn a_failed_statement_ends_the_script_with_its_status() {
    let none = run(&[
        "sql",
        "--format",
        "csv",
        "-c",
        "SELECT 1 AS n; SELECT * FROM 'none.csv'; SELECT 2 AS n",
    ]);
    failed(&none, MISSING_INPUT, "error: no file found at 'none.csv'\n");
    assert_eq!(none.stdout, "n\n1\n", "what was done before is there, what comes after is not");

    failed(
        &sql("SELECT 1; SELEC 2"),
        SQL,
        "syntax error: Expected: an SQL statement, found: SELEC",
    );
    assert_eq!(sql("SELECT 1; SELEC 2").stdout, "", "a script that does not parse does not start");
    failed(&sql("SELECT y FROM nothing"), SQL, "error: table 'nothing' not found\n");
    failed(&sql("SELECT z FROM (SELECT 1 AS y)"), SQL, "No field named z. Valid fields are y");
    failed(&sql("SELECT no_such(1)"), SQL, "no_such");
    failed(&sql("SELECT 1 / 0"), BAD_DATA, "error: Divide by zero error\n");
    failed(&sql("SELECT CAST('x' AS INT)"), BAD_DATA, "Cannot cast string 'x'");

    let folder = folder(&[("bad.parquet", "no parquet"), ("late.csv", &late_text())]);
    let bad = path(&folder, "bad.parquet");
    failed(&sql(&format!("SELECT * FROM '{bad}'")), BAD_DATA, &bad);
    let late = path(&folder, "late.csv");
    failed(&sql(&format!("SELECT sum(n) FROM '{late}'")), BAD_DATA, "text");
    let text = "SELECT sum(arrow_cast('a', 'Utf8'))";
    failed(&sql(text), SQL, "error: 'sum' does not take a String\n");
    failed(&run(&["sql", "-f", "none.sql"]), MISSING_INPUT, "none.sql");
}

/// Where the rows that types are taken from have no value of a column, those that come later are not lost.
#[test]
fn values_after_many_nulls_are_kept() {
    let rows: String = (0..3000).map(|n| format!("{n},\n")).collect();
    let folder = folder(&[("late.csv", &format!("n,late\n{rows}1,7.5\n"))]);
    let late = path(&folder, "late.csv");
    let counted = format!("SELECT count(late) AS n, max(late) AS late FROM '{late}'");
    assert_eq!(succeeded(run(&["sql", "--format", "csv", "-c", &counted])), "n,late\n1,7.5\n");
}

/// A column of numbers that holds a text after the rows from which types are inferred.
fn late_text() -> String {
    let mut rows: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    rows.push("text".into());
    format!("n\n{}\n", rows.join("\n"))
}

#[test]
fn wrong_arguments_are_told() {
    failed(&run(&["sql", "--format", "xml", "-c", "SELECT 1"]), USAGE, "xml");
    failed(&run(&["sql", "--memory-limit", "much", "-c", "SELECT 1"]), USAGE, "expected a size");
    failed(&run(&["nothing"]), USAGE, "nothing");
    failed(
        &run(&["sql", "-c", "SELECT * FROM 'ftp://x/y.csv'"]),
        USAGE,
        "no object store for ftp://",
    );
    assert_eq!(run(&[]).status, USAGE);
    assert_eq!(run(&["--help"]).status, 0);
}

#[test]
fn a_small_memory_limit_is_told() {
    let query =
        "SELECT count(*) FROM (SELECT value, count(*) FROM generate_series(1, 1000000) GROUP BY 1)";
    let small = run(&["sql", "--memory-limit", "100KB", "-c", query]);
    failed(&small, MEMORY, "the memory limit of");
    assert_eq!(small.stdout, "");
}

#[test]
fn log_lines_are_json_where_wanted() {
    let failed = run(&["sql", "--log-format", "json", "-c", "SELECT * FROM nothing"]);
    assert_eq!(failed.status, SQL);
    let line: serde_json::Value = serde_json::from_str(failed.stderr.trim()).expect("one object");
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["exit"], SQL);
    assert_eq!(line["message"], "table 'nothing' not found");
}

#[test]
fn timing_goes_to_standard_error() {
    let timed = run(&["sql", "--timing", "--format", "csv", "-c", "SELECT 1 AS n"]);
    assert_eq!(timed.stdout, "n\n1\n");
    assert!(timed.stderr.starts_with("1 row in "), "{}", timed.stderr);
}

/// A result that never ends, so that what stops it is what is tested.
const ENDLESS: &str = "SELECT value AS n FROM generate_series(1, 1000000000000)";

fn spawned(arguments: &[&str]) -> Child {
    gosset(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    for format in ["csv", "ndjson", "json", "markdown"] {
        let mut child = spawned(&["sql", "--format", format, "-c", ENDLESS]);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = Vec::new();
        lines.read_until(b'1', &mut line).expect("rows are streamed");
        drop(lines);
        let ended: Run = child.wait_with_output().expect("it ends").into();
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{format}");
    }
}

#[cfg(unix)]
#[test]
fn signals_stop_it() {
    let heavy = "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    for (signal, status, told) in [("INT", 130, "ctrl-C"), ("TERM", 143, "SIGTERM")] {
        let child = spawned(&["sql", "-c", heavy]);
        std::thread::sleep(Duration::from_millis(1500));
        let sent = Instant::now();
        let kill =
            Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        assert!(kill.expect("kill runs").success());
        let ended: Run = child.wait_with_output().expect("it ends").into();
        assert_eq!(ended.status, status);
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
        assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
    }
}

/// Replicates are drawn without looking up: the process ends all the same.
#[cfg(unix)]
#[test]
fn a_signal_stops_a_long_computation() {
    let calls: Vec<String> = (0..100)
        .map(|seed| {
            format!(
                "bootstrap_mean(i, i % 2 = 0, i, {{replicates: 100000, seed: {seed}}}) AS e{seed}"
            )
        })
        .collect();
    let heavy = format!("SELECT {} FROM generate_series(1, 50000) AS t (i)", calls.join(", "));
    let child = spawned(&["sql", "-c", &heavy]);
    std::thread::sleep(Duration::from_millis(1500));
    let sent = Instant::now();
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.expect("kill runs").success());
    let ended: Run = child.wait_with_output().expect("it ends").into();
    assert_eq!((ended.status, ended.stdout.as_str()), (143, ""));
    assert!(sent.elapsed() < Duration::from_secs(12), "{:?}", sent.elapsed());
}

#[test]
fn functions_are_described() {
    let list = succeeded(run(&["functions"]));
    assert!(list.lines().any(|line| line.starts_with("ttest ")), "{list}");
    let page = succeeded(run(&["functions", "ttest"]));
    assert!(page.contains("confidence"), "{page}");
    let all = succeeded(run(&["functions", "--format", "json"]));
    let all: serde_json::Value = serde_json::from_str(&all).expect("the reference is JSON");
    let count = all.as_array().map_or(0, Vec::len);
    assert_eq!(count, list.lines().count());
    let one = succeeded(run(&["functions", "TTEST", "--format", "json"]));
    let one: serde_json::Value = serde_json::from_str(&one).expect("an entry is JSON");
    assert_eq!(one["name"], "ttest");
    assert!(succeeded(run(&["functions", "--format", "markdown"])).contains("\n# Functions\n"));
    failed(&run(&["functions", "nothing"]), USAGE, "no function is called 'nothing'");
}

#[test]
fn the_functions_are_there() {
    let query = "SELECT e['estimate'] AS estimate, e['n_treatment'] AS n FROM (
        SELECT ttest(y, treated) AS e FROM (VALUES (1.0, false), (2.0, false), (4.0, true), (7.0, true)) AS t(y, treated))";
    assert_eq!(succeeded(sql(query)), "estimate,n\n4.0,2\n");
}

#[test]
fn completions_are_scripts() {
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef gosset"), ("fish", "complete -c gosset")]
    {
        let script = succeeded(run(&["completions", shell]));
        assert!(script.contains(word) && script.contains("ndjson"), "{shell}");
    }
}

#[test]
fn no_secret_is_told() {
    let canary = "canary-0f8d2b";
    let mut refused = gosset(&["sql", "-c", "SELECT * FROM 's3://bucket/x.parquet'"]);
    refused
        .env("AWS_ACCESS_KEY_ID", canary)
        .env("AWS_SECRET_ACCESS_KEY", canary)
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("GOSSET_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Nobody listens there, and the retries take their time: what was told until then is enough.
    let child = refused.spawn().expect("it starts");
    std::thread::sleep(Duration::from_secs(2));
    let kill = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(kill.success());
    let ended: Run = child.wait_with_output().expect("it ends").into();
    assert!(!ended.stderr.contains(canary) && !ended.stdout.contains(canary), "{}", ended.stderr);
    assert!(Path::new(&gosset_binary()).is_file());
}
