//! The program starts. That this test exists also makes `cargo test --workspace` build the program, which the tests of
//! the package `gosset-tests` run.

use std::process::Command;

#[test]
fn it_tells_its_version() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_gosset")).arg("--version").output().expect("it runs");
    assert!(output.status.success());
    let version = concat!("gosset ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
}
