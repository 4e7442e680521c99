//! The arrows between the crates, and one version of the crates that must be one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What cargo knows of our own packages. With their dependencies it would ask for crates of platforms that nobody here has.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--no-deps"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn arrows_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("gosset-stats", &[][..]),
        ("gosset-sql", &["gosset-stats"]),
        ("gosset-engine", &["gosset-stats", "gosset-sql"]),
        ("gosset-jobs", &["gosset-stats", "gosset-sql", "gosset-engine"]),
        ("gosset", &["gosset-sql", "gosset-engine", "gosset-jobs"]),
        ("xtask", &[]),
    ]);
    let metadata = metadata();
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().map(text).collect();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: Vec<&Value> = packages.iter().filter(|p| members.contains(text(&p["id"]))).collect();
    let names: BTreeSet<&str> = ours.iter().map(|p| text(&p["name"])).collect();
    for package in &ours {
        let name = text(&package["name"]);
        let Some(allowed) = allowed.get(name) else {
            assert!(
                matches!(name, "gosset-tests" | "gosset-benches"),
                "the architecture does not know the package '{name}'"
            );
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = text(&dependency["name"]);
            assert!(
                !names.contains(to) || allowed.contains(&to),
                "'{name}' must not depend on '{to}'"
            );
        }
    }
}

#[test]
fn mathematics_knows_nothing_of_arrow_and_io() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let stats = packages.iter().find(|p| p["name"] == "gosset-stats").unwrap();
    for dependency in stats["dependencies"].as_array().unwrap() {
        let name = text(&dependency["name"]);
        let foreign = ["arrow", "parquet", "datafusion", "tokio", "object_store", "futures"];
        assert!(!foreign.iter().any(|f| name.starts_with(f)), "gosset-stats depends on '{name}'");
    }
}

#[test]
fn there_is_one_arrow_world() {
    let lock =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    for name in ["arrow", "arrow-array", "parquet", "datafusion", "object_store", "tonic"] {
        let entry = format!("[[package]]\nname = \"{name}\"\nversion = ");
        let versions: Vec<_> = lock.split(&entry).skip(1).map(|rest| rest.lines().next()).collect();
        assert!(versions.len() <= 1, "more than one version of '{name}': {versions:?}");
    }
    assert!(lock.contains("name = \"arrow\"") && lock.contains("name = \"datafusion\""));
}

/// `cargo run` and `cargo test --workspace` must agree on the features of every shared dependency, or DataFusion is
/// built twice.
#[test]
fn dependencies_are_built_once() {
    let features = |args: &[&str]| -> BTreeSet<String> {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p} [{f}]"])
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    };
    let binary = features(&["--package", "gosset", "--edges", "normal,build"]);
    let all = features(&["--workspace", "--edges", "normal,build,dev"]);
    let different: Vec<_> = binary.difference(&all).collect();
    assert!(different.is_empty(), "built with other features by `cargo run`: {different:?}");
}
