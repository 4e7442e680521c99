//! The work directory of an executor: shuffle files, and what queries spill.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::{EngineError, Result};

/// What the names of our folders begin with; nothing else in a work directory is touched.
const PREFIX: &str = "gosset-executor-";
const LOCK: &str = "lock";
/// Files that are younger may be a result that is still read, of a query that is told about no more.
const YOUNG: Duration = Duration::from_secs(2 * 3600);

/// A folder of this process in the work directory. It is deleted at the end; that of a process that was killed is deleted
/// by the next executor that starts there, as its lock is free.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    _lock: File,
}

impl WorkDir {
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let failed =
            |error: std::io::Error| EngineError::of(&error).about(&parent.display().to_string());
        std::fs::create_dir_all(parent).map_err(failed)?;
        for entry in std::fs::read_dir(parent).map_err(failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                delete_if_left(&entry.path());
            }
        }
        let path = parent.join(format!("{PREFIX}{}", Uuid::new_v4()));
        // Others delete a folder whose lock is free: it is made and locked under another name.
        let made = parent.join(format!(".{}", Uuid::new_v4()));
        std::fs::create_dir(&made).map_err(failed)?;
        let lock = File::create(made.join(LOCK)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        std::fs::rename(&made, &path).map_err(failed)?;
        for folder in [path.join("shuffle"), path.join("spill")] {
            std::fs::create_dir(folder).map_err(failed)?;
        }
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn shuffle(&self) -> PathBuf {
        self.path.join("shuffle")
    }

    pub(crate) fn spill(&self) -> PathBuf {
        self.path.join("spill")
    }

    /// Deletes the shuffle files of queries that are not known, those of the last hours apart.
    pub(crate) fn keep(&self, is_known: impl Fn(&str) -> bool) {
        let Ok(entries) = std::fs::read_dir(self.shuffle()) else { return };
        for query in entries.flatten() {
            let age =
                query.metadata().and_then(|found| found.modified()).map(|time| time.elapsed());
            let is_old = matches!(age, Ok(Ok(age)) if age > YOUNG);
            if is_old
                && !is_known(&query.file_name().to_string_lossy())
                && let Err(error) = std::fs::remove_dir_all(query.path())
            {
                tracing::warn!("{} is left: {error}", query.path().display());
            }
        }
    }

    /// Whether shuffle files of any query are left.
    pub(crate) fn is_read(&self) -> bool {
        std::fs::read_dir(self.shuffle()).is_ok_and(|mut entries| entries.next().is_none())
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!("{} is left: {error}", self.path.display());
        }
    }
}

fn delete_if_left(folder: &Path) {
    let Ok(lock) = File::open(folder.join(LOCK)) else { return };
    match lock.try_lock() {
        Ok(()) => match std::fs::remove_dir_all(folder) {
            Ok(()) => tracing::info!("deleted {}, which a killed executor left", folder.display()),
            Err(error) => tracing::warn!("{} is left: {error}", folder.display()),
        },
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => tracing::warn!("{}: {error}", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_unknown_queries_are_deleted() {
        let parent = tempfile::tempdir().expect("a folder");
        let work = WorkDir::new(parent.path()).expect("a folder");
        for query in ["known", "unknown", "young"] {
            let folder = work.shuffle().join(query);
            std::fs::create_dir(&folder).expect("a folder");
            let age = if query == "young" { Duration::ZERO } else { 2 * YOUNG };
            let folder = File::open(folder).expect("a folder");
            folder.set_modified(std::time::SystemTime::now() - age).expect("a time");
        }
        work.keep(|query| query == "known");
        let left = |query| work.shuffle().join(query).exists();
        assert!(left("known") && !left("unknown") && left("young"));
    }

    #[test]
    fn what_is_left_is_deleted_and_what_is_used_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        std::fs::write(parent.path().join("mine.txt"), "text").expect("a file");
        let used = WorkDir::new(parent.path()).expect("a folder");
        let left = parent.path().join(format!("{PREFIX}left"));
        std::fs::create_dir_all(left.join("shuffle/job")).expect("a folder");
        std::fs::write(left.join(LOCK), "").expect("a file");
        assert!(used.is_read());
        std::fs::create_dir(used.shuffle().join("job")).expect("a folder");

        let other = WorkDir::new(parent.path()).expect("a folder");
        assert!(!left.exists() && used.shuffle().join("job").exists());
        assert!(!used.is_read() && other.is_read());
        drop((used, other));
        let names = || std::fs::read_dir(parent.path()).expect("a folder").count();
        assert_eq!(names(), 1, "the file that was there");
    }
}
