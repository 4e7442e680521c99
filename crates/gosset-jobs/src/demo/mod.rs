//! A small lake with known effects: what `gosset demo` writes and analyses.

mod generate;

use std::fs;
use std::path::{Path, PathBuf};

use gosset_engine::EngineError;

use crate::{JobError, Result};

const JOB: &str = include_str!("demo.toml");

/// A lake that was written.
#[derive(Debug, Clone)]
pub struct Lake {
    /// Its folder.
    pub folder: PathBuf,
    /// The job file.
    pub job: PathBuf,
    /// The true effect of each experiment and metric on the units that are analysed, as CSV.
    pub truth: PathBuf,
}

/// Writes the lake into a folder, over one that was there before.
///
/// # Errors
/// If the folder cannot be written, or its name cannot stand in a job file.
pub fn write(folder: &Path) -> Result<Lake> {
    let shown =
        folder.to_str().filter(|text| !text.contains(['"', '\\', '\n'])).ok_or_else(|| {
            JobError::File(format!(
                "the folder '{}' cannot be named in a job file",
                folder.display()
            ))
        })?;
    let told = |error: std::io::Error| JobError::Engine(EngineError::of(&error).about(shown));
    let sessions = folder.join("sessions");
    if sessions.exists() {
        fs::remove_dir_all(&sessions).map_err(told)?;
    }
    fs::create_dir_all(&sessions).map_err(told)?;
    let lake = Lake {
        folder: folder.to_owned(),
        job: folder.join("demo.toml"),
        truth: folder.join("truth.csv"),
    };
    let made = generate::generate();
    generate::write_parquet(&folder.join("allocations.parquet"), &made.allocations)?;
    for (day, rows) in &made.sessions {
        let folder = sessions.join(format!("ds={day}"));
        fs::create_dir_all(&folder).map_err(told)?;
        generate::write_parquet(&folder.join("part-0.parquet"), rows)?;
    }
    fs::write(&lake.truth, made.truth).map_err(told)?;
    fs::write(&lake.job, JOB.replace("LAKE", shown)).map_err(told)?;
    Ok(lake)
}
