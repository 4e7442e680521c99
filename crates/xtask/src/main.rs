//! Repository chores, run as `cargo x <chore>`.
#![expect(clippy::print_stdout, reason = "a command line tool prints")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo x <chore>

  docs [--check]       writes sql/functions.md and jobs/schema.json from the code; --check only compares
  golden               makes the expected numbers of tests/golden again (needs python3)
  calibrate bootstrap | adjusted [EXPERIMENTS [LARGEST_N]]
                       coverage of intervals by simulation, into sql/bootstrap.md or sql/adjusted.md
  peers [ROWS]         Gosset beside DuckDB, Polars and numpy on one generated file of 1,000,000 rows (needs python3)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["docs"] => docs(false),
        ["docs", "--check"] => docs(true),
        ["golden"] => golden(),
        ["calibrate", subject @ ("bootstrap" | "adjusted"), ref numbers @ ..] => {
            calibrate(subject, numbers)
        }
        ["peers"] => peers("1000000"),
        ["peers", rows] => peers(rows),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// Every generated file with what generates it: arguments of the binary. (A dependency on the functions themselves
/// would build DataFusion once more, with the features that this program alone asks for.)
const GENERATED: &[(&str, &[&str])] = &[
    ("sql/functions.md", &["functions", "--format", "markdown"]),
    ("jobs/schema.json", &["schema"]),
];

fn docs(check: bool) -> Result<(), String> {
    for (path, args) in GENERATED {
        let gosset = ["run", "--quiet", "--package", "gosset", "--"];
        let output = output_of(cargo().args(gosset).args(*args))?;
        let file = root().join(path);
        if check {
            if std::fs::read(&file).ok().as_ref() != Some(&output) {
                return Err(format!("{path} is not up to date: run `cargo x docs`"));
            }
            println!("{path} is up to date");
        } else {
            std::fs::write(&file, output).map_err(|e| format!("failed to write {path}: {e}"))?;
            println!("wrote {path}");
        }
    }
    Ok(())
}

fn golden() -> Result<(), String> {
    let folder = root().join("tests/golden");
    let python = python(&folder.join("requirements.txt"), "golden")?;
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut scripts: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join("make.py")))
        .filter(|script| script.exists())
        .collect();
    scripts.sort();
    for script in scripts {
        println!("{}", script.display());
        run(Command::new(&python).arg(&script))?;
    }
    Ok(())
}

/// Writes the tables of a simulation into the page of its subject, between two comments.
fn calibrate(subject: &str, numbers: &[&str]) -> Result<(), String> {
    // `cargo run` takes no `--workspace`, without which dependencies have other features.
    run(cargo().args(["build", "--release", "--workspace", "--example", "calibrate"]))?;
    let program = target().join("release/examples/calibrate");
    let output = output_of(Command::new(program).arg(subject).args(numbers))?;
    let name = format!("sql/{subject}.md");
    let file = root().join(&name);
    let failed = |e: std::io::Error| format!("{}: {e}", file.display());
    let page = std::fs::read_to_string(&file).map_err(failed)?;
    let (before, after) = (format!("<!-- cargo x calibrate {subject} -->\n"), "<!-- end -->\n");
    let start = page.find(&before).ok_or_else(|| format!("{name} has no place for the table"))?;
    let start = start + before.len();
    let end = page.find(after).ok_or_else(|| format!("{name} has no end of the table"))?;
    let table = String::from_utf8_lossy(&output);
    let page = format!("{}\n{table}\n{}", &page[..start], &page[end..]);
    std::fs::write(&file, page).map_err(failed)
}

fn peers(rows: &str) -> Result<(), String> {
    let folder = root().join("benches/peers");
    let duckreg = python(&folder.join("duckreg.txt"), "duckreg")?;
    let python = python(&folder.join("requirements.txt"), "peers")?;
    run(cargo().args(["build", "--release", "--package", "gosset"]))?;
    let file = target().join(format!("peers-{rows}.parquet"));
    if !file.exists() {
        run(Command::new(&python).arg(folder.join("generate.py")).arg(rows).arg(&file))?;
    }
    let gosset = target().join("release/gosset");
    let mut peers = Command::new(&python);
    run(peers.arg(folder.join("run.py")).arg(gosset).arg(file).env("DUCKREG_PYTHON", duckreg))
}

/// What a command prints that runs at the root of the repository.
fn output_of(command: &mut Command) -> Result<Vec<u8>, String> {
    let command = command.current_dir(root()).stderr(std::process::Stdio::inherit());
    match command.output() {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(format!("{} ended with {}", shown(command), output.status)),
        Err(e) => Err(format!("failed to start {}: {e}", shown(command))),
    }
}

/// A command with its arguments.
fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(std::ffi::OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Cargo, without what it tells this program of its package: build scripts that look at it would run again, and DataFusion
/// with them.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| told.iter().any(|prefix| name.starts_with(prefix))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The python of a virtual environment in the target folder that has the packages of a file.
fn python(requirements: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = target().join("python").join(name);
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(&python).args(pip).arg(requirements))?;
    Ok(python)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a command at the root of the repository.
fn run(command: &mut Command) -> Result<(), String> {
    match command.current_dir(root()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", shown(command))),
        Err(e) => Err(format!("failed to start {}: {e}", shown(command))),
    }
}
