//! The registry and what is written about it: every function is documented, tested and runs as its page says; so do
//! the queries of the README and of `sql`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gosset_engine::{Engine, EngineOptions};
use gosset_sql::Section;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// An engine whose relative paths are those of someone at the root of the repository.
fn engine() -> Engine {
    std::env::set_current_dir(root()).unwrap();
    Engine::new(EngineOptions::new()).unwrap()
}

async fn run(engine: &Engine, script: &str, from: &str) -> usize {
    let statements = engine.parse(script).unwrap_or_else(|e| panic!("{from}: {e}\n{script}"));
    let mut rows = 0;
    for statement in statements {
        let plan = engine.plan(statement).await.unwrap_or_else(|e| panic!("{from}: {e}\n{script}"));
        let stream = engine.execute(plan).await.unwrap_or_else(|e| panic!("{from}: {e}\n{script}"));
        let batches = datafusion::physical_plan::common::collect(stream).await;
        let batches = batches.unwrap_or_else(|e| panic!("{from}: {e}\n{script}"));
        rows += batches.iter().map(|b| b.num_rows()).sum::<usize>();
    }
    rows
}

#[test]
fn names_are_unique_and_every_function_is_documented() {
    let mut names = BTreeSet::new();
    for function in gosset_sql::FUNCTIONS {
        let name = function.name;
        assert!(names.insert(name), "'{name}' is in the registry twice");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "'{name}'");
        assert!(
            function.summary.ends_with('.'),
            "'{name}' has no sentence that says what it gives"
        );
        let long_enough = function.description.len() > 40 || function.name == "exact_avg";
        assert!(long_enough, "'{name}' has no description");
        for argument in function.arguments {
            assert!(!argument.doc.is_empty(), "'{name}': argument '{}'", argument.name);
        }
        for option in function.options() {
            assert!(!option.doc.is_empty(), "'{name}': option '{}'", option.name);
        }
        assert!(function.value_version >= 1, "'{name}'");
        assert!(
            function.example.sql.contains(&format!("{name}(")),
            "the example of '{name}' does not call it"
        );
    }
}

#[test]
fn estimators_name_their_source_and_their_undefined_cases() {
    for function in gosset_sql::FUNCTIONS {
        let one_call = function.returns == "an effect" && function.section != Section::Comparisons;
        if one_call {
            assert!(!function.references.is_empty(), "'{}' has no reference", function.name);
        }
        if function.section != Section::Comparisons {
            assert!(function.description.contains("| input | result |"), "'{}'", function.name);
        }
    }
}

/// The files of queries: name and text.
fn slt_files() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join("tests/slt")).unwrap();
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn every_function_has_a_file_of_queries() {
    let files = slt_files();
    for function in gosset_sql::FUNCTIONS {
        let name = function.name;
        let words = |text: &str| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            text.split(|c| !is_name(c)).any(|word| word == name)
        };
        // Its name in the first line says which of the files that call it is its own.
        let own = files.iter().find(|(_, text)| words(text.lines().next().unwrap_or_default()));
        let (file, text) = own.unwrap_or_else(|| panic!("no file of tests/slt is about '{name}'"));
        let call = format!("{name}(");
        let results = text.split("\n\n").filter(|r| r.starts_with("query ") && r.contains(&call));
        let (errors, results): (Vec<&str>, Vec<&str>) =
            results.partition(|record| record.starts_with("query error"));
        assert!(errors.len() >= 3, "{file}: {} errors of '{name}'", errors.len());
        assert!(!results.is_empty(), "{file}: no results of '{name}'");
    }
}

#[test]
fn files_of_queries_say_where_their_numbers_are_from_and_which_errors_they_expect() {
    for (file, text) in slt_files() {
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(header.iter().any(|line| line.starts_with("# Expected ")), "{file}: no oracle");
        for line in text.lines() {
            let bare = ["query error", "statement error"].contains(&line.trim());
            assert!(!bare, "{file}: an error without a pattern passes on a typo");
        }
    }
}

#[tokio::test]
async fn every_example_runs() {
    let engine = engine();
    for function in gosset_sql::FUNCTIONS {
        let rows = run(&engine, function.example.sql, function.name).await;
        assert!(rows > 0, "the example of '{}' gives no rows", function.name);
    }
}

#[tokio::test]
async fn every_shipped_query_runs() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("sql"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sql"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let script = std::fs::read_to_string(&file).unwrap();
        assert!(run(&engine(), &script, &file.display().to_string()).await > 0);
    }
}

#[tokio::test]
async fn every_query_of_the_readme_runs() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks = 0;
    for block in readme.split("```sql\n").skip(1) {
        let query = block.split("```").next().unwrap();
        assert!(run(&engine(), query, "README.md").await > 0);
        blocks += 1;
    }
    assert!(blocks > 0);
}

#[test]
fn the_generated_reference_is_up_to_date() {
    let written = std::fs::read_to_string(root().join("sql/functions.md")).unwrap();
    assert!(written == gosset_sql::functions_markdown(), "run `cargo x docs`");
}
