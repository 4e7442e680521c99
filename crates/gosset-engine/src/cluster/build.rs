//! Which build a part of a cluster is: what the parts tell one another before anything else.

use std::fmt;
use std::hash::Hasher;

use gosset_sql::FUNCTIONS;

/// Version and functions of a build. A plan carries functions by their names alone, and states and summaries cross the
/// network in the form of one version: parts of another build are refused, however close they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    version: String,
    functions: String,
}

impl Build {
    /// This one.
    pub(crate) fn this() -> Self {
        let mut functions: Vec<_> =
            FUNCTIONS.iter().map(|function| (function.name, function.value_version)).collect();
        functions.sort_unstable();
        let mut hash = Fnv::default();
        for (name, value_version) in functions {
            hash.write(name.as_bytes());
            hash.write(&[0]);
            hash.write(&value_version.to_le_bytes());
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            functions: format!("{:016x}", hash.finish()),
        }
    }

    /// Another one, for tests.
    #[cfg(test)]
    pub(crate) fn other() -> Self {
        Self { functions: "0".repeat(16), ..Self::this() }
    }

    pub(crate) fn new(version: &str, functions: &str) -> Self {
        Self { version: version.to_owned(), functions: functions.to_owned() }
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn functions(&self) -> &str {
        &self.functions
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gosset {} (functions {})", self.version, self.functions)
    }
}

/// FNV-1a: the same number in every build, which the standard library does not promise of its own.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_told_by_version_and_functions() {
        let told = Build::this().to_string();
        assert!(told.starts_with(concat!("gosset ", env!("CARGO_PKG_VERSION"))), "{told}");
        assert_eq!(Build::this(), Build::this());
        assert_ne!(Build::this(), Build::other());
    }

    #[test]
    fn the_hash_is_fnv() {
        let mut hash = Fnv::default();
        hash.write(b"foobar");
        // From the list of its authors.
        assert_eq!(hash.finish(), 0x8594_4171_f739_67e8);
    }
}
