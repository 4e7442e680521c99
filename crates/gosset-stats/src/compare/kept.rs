//! What depends on a seed and not on data is kept for the next comparison: many groups are compared with the same options.

use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The values that were asked for last, a few of them, each made once by whoever comes first.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    most: usize,
    /// The latest at the end.
    entries: Mutex<Vec<(K, Arc<OnceLock<V>>)>>,
}

impl<K: PartialEq, V> Kept<K, V> {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, entries: Mutex::new(Vec::new()) }
    }

    pub(super) fn get(&self, key: K, make: impl FnOnce() -> V) -> Shared<V> {
        let value = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let found = entries.iter().position(|(of, _)| *of == key);
            let entry = found.map_or_else(|| (key, Arc::default()), |i| entries.remove(i));
            let value = Arc::clone(&entry.1);
            if entries.len() == self.most {
                entries.remove(0);
            }
            entries.push(entry);
            value
        };
        value.get_or_init(make);
        Shared(value)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A value that is made.
#[derive(Debug)]
pub(super) struct Shared<V>(Arc<OnceLock<V>>);

impl<V> Deref for Shared<V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.0.get().expect("a value is made before it is shared")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_made_once() {
        let kept = Kept::new(2);
        let mut made = 0;
        for (key, expected) in [(1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)] {
            let value = kept.get(key, || {
                made += 1;
                10 * key
            });
            assert_eq!(*value, 10 * key);
            assert_eq!(made, expected, "{key}");
            assert!(kept.len() <= 2);
        }
    }
}
