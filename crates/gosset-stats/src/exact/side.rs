//! Sums of the few slots that have values which do not fit their lanes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::sum::ExactSum;

/// Slots are small numbers: a multiplication spreads them well enough.
#[derive(Debug, Default, Clone)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u32(b.into()));
    }
    fn write_u32(&mut self, slot: u32) {
        let spread = (self.0 ^ u64::from(slot)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 32;
    }
}

type Slots = HashMap<u32, Box<[ExactSum]>, BuildHasherDefault<SlotHasher>>;

/// Exact sums of any size by slot, beside the lanes.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    slots: Slots,
    /// Bytes that the sums themselves hold on the heap.
    held: usize,
}

fn held(sums: &[ExactSum]) -> usize {
    size_of_val(sums) + sums.iter().map(ExactSum::heap_size).sum::<usize>()
}

impl Side {
    /// The sums of a slot, if it has any here.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&[ExactSum]> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots.get(&slot).map(AsRef::as_ref)
    }

    /// Changes the sums of a slot, which are made if it has none.
    pub(super) fn change(&mut self, slot: u32, len: usize, change: impl FnOnce(&mut [ExactSum])) {
        let mut before = 0;
        let sums = match self.slots.entry(slot) {
            std::collections::hash_map::Entry::Occupied(e) => {
                let sums = e.into_mut();
                before = held(sums);
                sums
            }
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert(vec![ExactSum::new(); len].into())
            }
        };
        change(sums);
        self.held = self.held + held(sums) - before;
    }

    /// Forgets the sums of a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        if self.slots.is_empty() {
            return;
        }
        if let Some(sums) = self.slots.remove(&slot) {
            self.held -= held(&sums);
        }
    }

    /// Forgets the slots from this one on.
    pub(super) fn truncate(&mut self, slots: usize) {
        self.renumber(|slot| ((slot as usize) < slots).then_some(slot));
    }

    /// Forgets the first slots; the others move down.
    pub(super) fn drop_first(&mut self, n: usize) {
        self.renumber(|slot| (slot as usize).checked_sub(n).map(|slot| slot as u32));
    }

    fn renumber(&mut self, new: impl Fn(u32) -> Option<u32>) {
        if self.slots.is_empty() {
            return;
        }
        let old = std::mem::take(&mut self.slots).into_iter();
        self.slots = old.filter_map(|(slot, sums)| Some((new(slot)?, sums))).collect();
        self.held = self.slots.values().map(|sums| held(sums)).sum();
    }

    /// Bytes held on the heap.
    pub(super) fn heap_size(&self) -> usize {
        // A place of the map has a byte of control beside the entry, and up to an eighth of the places stay free.
        let place = size_of::<(u32, Box<[ExactSum]>)>() + 1;
        self.slots.capacity() * place * 8 / 7 + self.held
    }
}
