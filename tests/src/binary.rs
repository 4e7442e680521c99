//! The program itself, for tests that run it as its users do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The `gosset` binary of the profile that the running test was built with.
///
/// `cargo test --workspace` has built it already, for the tests of its own package; when one package is tested alone it
/// may be missing or older than its sources, and is built here.
///
/// # Panics
/// If it cannot be built.
pub fn gosset_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            let test = std::env::current_exe().expect("a test is a file");
            // target/<profile>/deps/<test>
            let profile = test.ancestors().nth(2).expect("tests are built into deps");
            let binary = profile.join(format!("gosset{}", std::env::consts::EXE_SUFFIX));
            if modified(&binary) < newest_source() {
                build(profile);
            }
            assert!(binary.is_file(), "expected {} to be built", binary.display());
            binary
        })
        .clone()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

fn build(profile: &Path) {
    let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
    let name = if name == "debug" { "dev" } else { name };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo says of the package of this test is not for the build: build scripts that watch it (ring's does) would
    // run again, and everything that depends on them, DataFusion too, be compiled again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if of_this_package || name == "CARGO_PRIMARY_PACKAGE" {
            command.env_remove(&*name);
        }
    }
    let status = command
        // The whole workspace, so that dependencies have the features that they have in its tests.
        .args(["build", "--workspace", "--locked", "--bin", "gosset", "--profile", name])
        .arg("--target-dir")
        .arg(profile.parent().expect("a profile is in the target directory"))
        .current_dir(workspace())
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the gosset binary does not build");
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn newest_source() -> Option<SystemTime> {
    let mut newest = None;
    let mut folders = vec![workspace().join("crates")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                newest = newest.max(modified(&path));
            }
        }
    }
    newest
}
