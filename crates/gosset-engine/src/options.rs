//! What a session may use: memory, threads, room to spill.

use std::path::PathBuf;

use crate::{EngineError, Result, Stores};

/// Limits and sizes of an [`Engine`](crate::Engine). The default uses the whole machine, three quarters of its memory.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    pub(crate) memory_limit: Option<usize>,
    pub(crate) spill_directory: Option<PathBuf>,
    pub(crate) target_partitions: Option<usize>,
    pub(crate) batch_size: Option<usize>,
    pub(crate) stores: Stores,
    #[cfg(feature = "cluster")]
    pub(crate) cluster: Option<crate::cluster::Cluster>,
}

impl EngineOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that queries may hold; beyond them they spill, or fail with a message that names the largest holders.
    #[must_use]
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Where queries spill; the system's temporary directory unless given.
    #[must_use]
    pub fn with_spill_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spill_directory = Some(directory.into());
        self
    }

    /// Into how many streams a query is split; one for each core unless given.
    #[must_use]
    pub fn with_target_partitions(mut self, partitions: usize) -> Self {
        self.target_partitions = Some(partitions.max(1));
        self
    }

    /// Rows of a batch; 8192 unless given.
    #[must_use]
    pub fn with_batch_size(mut self, rows: usize) -> Self {
        self.batch_size = Some(rows.max(1));
        self
    }

    /// The object stores to use, for instance ones that fail on purpose.
    #[must_use]
    pub fn with_stores(mut self, stores: Stores) -> Self {
        self.stores = stores;
        self
    }

    /// Runs queries on a cluster. Tables, settings and plans stay with this process, and so do its writes of Delta tables;
    /// the memory limit is that of what it does itself.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn with_cluster(mut self, cluster: crate::cluster::Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }
}

/// A number of bytes as people write it: `8GB`, `512 MiB`, `1.5g`, `4096`.
///
/// Units are powers of 1024, with or without the `i`.
pub fn parse_bytes(text: &str) -> Result<usize> {
    let wrong = || {
        EngineError::Option(format!(
            "expected a size such as 8GB or 512MB, found '{}'",
            text.trim()
        ))
    };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * f64::from(shift).exp2();
    // 2^53 bytes is more memory than there is, and exact in a double.
    if (1.0..=9_007_199_254_740_992.0).contains(&bytes) { Ok(bytes as usize) } else { Err(wrong()) }
}

/// Three quarters of what this process may use: of the container's limit where there is one, else of the machine.
///
/// `None` where it cannot be known.
pub(crate) fn default_memory_limit() -> Option<usize> {
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| kilobytes_of("MemTotal:", &text))
        .map(|kilobytes| kilobytes.saturating_mul(1024));
    container.chain(machine).min().map(|bytes| bytes / 4 * 3)
}

fn kilobytes_of(name: &str, meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1KB", 1024),
            ("8GB", 8 << 30),
            (" 512 MiB ", 512 << 20),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "8 apples", "-1GB", "0", "1e3", "99999999999TB", "1.2.3MB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_bytes("eight").expect_err("not a size").to_string(),
            "expected a size such as 8GB or 512MB, found 'eight'"
        );
    }

    #[test]
    fn machine_memory_is_read() {
        assert_eq!(kilobytes_of("MemTotal:", "MemFree: 1 kB\nMemTotal:   2048 kB\n"), Some(2048));
        assert_eq!(kilobytes_of("MemTotal:", ""), None);
    }
}
