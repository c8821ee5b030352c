//! A worker's connections and listeners by number. A number is used again, but never with the
//! same generation, so that an event or a message for one that has gone finds nothing.

/// The place of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    item: Option<T>,
}

impl Key {
    pub(crate) const MIN: Self = Self { index: 0, generation: 0 };
    pub(crate) const MAX: Self = Self { index: u32::MAX, generation: u32::MAX };

    /// Indices fit in 30 bits: two bits are left for what an event's token says besides.
    const INDEX_BITS: u32 = 30;

    /// The key and two bits of the caller's, in one word.
    pub(crate) fn pack(self, low: u64) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index) << 2 | low
    }

    pub(crate) fn unpack(word: u64) -> (Self, u64) {
        let index = ((word >> 2) & ((1 << Self::INDEX_BITS) - 1)) as u32;
        (Self { index, generation: (word >> 32) as u32 }, word & 3)
    }
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// The key that the next item put in will have.
    pub(crate) fn next_key(&self) -> Key {
        match self.free.last() {
            Some(&index) => Key { index, generation: self.slots[index as usize].generation },
            None => {
                let index = u32::try_from(self.slots.len()).expect("descriptors run out before");
                Key { index, generation: 0 }
            }
        }
    }

    pub(crate) fn insert(&mut self, item: T) -> Key {
        let key = self.next_key();
        let item = Some(item);
        if self.free.pop().is_some() {
            self.slots[key.index as usize].item = item;
        } else {
            self.slots.push(Slot { generation: key.generation, item });
        }
        key
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.item.as_mut() } else { None }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let item = slot.item.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_item_and_finds_no_other() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(slab.get_mut(first), None);
        assert!(slab.remove(first).is_none());
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn a_key_survives_packing() {
        let key = Key { index: (1 << 30) - 1, generation: u32::MAX };
        assert_eq!(Key::unpack(key.pack(3)), (key, 3));
        let key = Key { index: 5, generation: 9 };
        assert_eq!(Key::unpack(key.pack(2)), (key, 2));
    }
}
