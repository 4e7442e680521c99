//! Labels by number.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// What rows are labelled with.
pub(super) trait Label: Eq + Hash + Clone {
    /// Bytes on the heap.
    fn heap_size(&self) -> usize;
}

impl Label for String {
    fn heap_size(&self) -> usize {
        self.len()
    }
}

impl Label for Option<String> {
    fn heap_size(&self) -> usize {
        self.as_ref().map_or(0, String::len)
    }
}

/// Labels, by number in the order in which they came.
#[derive(Debug)]
pub(super) struct Labels<L> {
    numbers: HashMap<L, u32>,
    names: Vec<L>,
    bytes: usize,
}

impl<L> Default for Labels<L> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), names: Vec::new(), bytes: 0 }
    }
}

impl<L: Label> Labels<L> {
    /// The number of a label, which is a new one for a new label.
    pub(super) fn number<Q>(&mut self, label: &Q) -> u32
    where
        L: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = L>,
    {
        if let Some(&number) = self.numbers.get(label) {
            return number;
        }
        let (number, label) = (self.names.len() as u32, label.to_owned());
        self.bytes += 2 * (label.heap_size() + size_of::<L>()) + size_of::<u64>();
        self.names.push(label.clone());
        self.numbers.insert(label, number);
        number
    }

    /// The labels in the order of their numbers.
    pub(super) fn names(&self) -> &[L] {
        &self.names
    }

    /// Bytes held on the heap, about.
    pub(super) fn heap_size(&self) -> usize {
        self.bytes
    }
}
