//! How many connections a server has, and whether it may have one more.
//!
//! The limits follow the model: a server that has reached its maximum takes new connections only
//! once it is below its minimum again (with a minimum of 0: below its maximum). The count is exact
//! under any concurrency: count and "closed until it has emptied" change in one atomic word.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The limits of one server; 0 as in the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Slots {
    state: AtomicU64,
    limits: AtomicU64,
}

/// A count, and whether the maximum was reached since the minimum was last left below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    active: u32,
    full: bool,
}

impl Slots {
    pub(crate) fn active(&self) -> u32 {
        State::unpack(self.state.load(SeqCst)).active
    }

    pub(crate) fn has_room(&self) -> bool {
        !State::unpack(self.state.load(SeqCst)).full
    }

    /// Takes a slot if there is one.
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        self.change(|state, limits| state.taken(limits))
    }

    /// Takes a slot for a connection that exists already, whatever the limits.
    pub(crate) fn occupy(&self) {
        self.change(|state, limits| Some(state.occupied(limits)));
    }

    pub(crate) fn release(&self) {
        self.change(|state, limits| Some(state.released(limits)));
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.store(limits.pack(), SeqCst);
        self.change(|state, limits| Some(state.under(limits)));
    }

    fn change(&self, step: impl Fn(State, Limits) -> Option<State>) -> bool {
        self.state
            .fetch_update(SeqCst, SeqCst, |word| {
                // Read inside the loop, so that a change under old limits is never the last.
                let limits = Limits::unpack(self.limits.load(SeqCst));
                step(State::unpack(word), limits).map(State::pack)
            })
            .is_ok()
    }
}

impl State {
    fn taken(self, limits: Limits) -> Option<Self> {
        (!self.full).then(|| self.occupied(limits))
    }

    fn occupied(self, limits: Limits) -> Self {
        Self { active: self.active + 1, full: self.full }.under(limits)
    }

    fn released(self, limits: Limits) -> Self {
        Self { active: self.active - 1, full: self.full }.under(limits)
    }

    fn under(self, limits: Limits) -> Self {
        let full = match limits.max {
            0 => false,
            max if self.active >= max => true,
            max if limits.min == 0 || limits.min >= max => false,
            _ => self.full && self.active >= limits.min,
        };
        Self { full, ..self }
    }

    fn pack(self) -> u64 {
        u64::from(self.active) << 1 | u64::from(self.full)
    }

    fn unpack(word: u64) -> Self {
        Self { active: ((word >> 1) & 0xffff_ffff) as u32, full: word & 1 == 1 }
    }
}

impl Limits {
    fn pack(self) -> u64 {
        u64::from(self.min) << 32 | u64::from(self.max)
    }

    fn unpack(word: u64) -> Self {
        Self { min: (word >> 32) as u32, max: (word & 0xffff_ffff) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn slots(min: u32, max: u32) -> Slots {
        let slots = Slots::default();
        slots.set_limits(Limits { min, max });
        slots
    }

    #[test]
    fn a_full_server_opens_again_below_its_minimum() {
        let slots = slots(2, 4);
        assert_eq!((0..6).filter(|_| slots.take()).count(), 4);
        slots.release();
        slots.release();
        assert!(!slots.take(), "2 are not below 2");
        slots.release();
        assert_eq!((0..6).filter(|_| slots.take()).count(), 3);
    }

    #[test]
    fn without_a_minimum_one_below_the_maximum_will_do() {
        let slots = slots(0, 2);
        assert_eq!((0..6).filter(|_| slots.take()).count(), 2);
        slots.release();
        assert!(slots.take());
    }

    #[test]
    fn limits_change_under_way() {
        let slots = slots(0, 0);
        assert_eq!((0..9).filter(|_| slots.take()).count(), 9);
        slots.set_limits(Limits { min: 3, max: 5 });
        assert!(!slots.take());
        slots.set_limits(Limits { min: 0, max: 10 });
        assert!(slots.take());
        assert!(!slots.take());
    }

    #[test]
    fn no_thread_ever_sees_more_than_the_maximum() {
        let (slots, inside) = (slots(3, 5), AtomicU32::new(0));
        let visit = || {
            for _ in 0..20_000 {
                if slots.take() {
                    assert!(inside.fetch_add(1, SeqCst) < 5);
                    inside.fetch_sub(1, SeqCst);
                    slots.release();
                }
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(visit))));
        assert_eq!(slots.active(), 0);
        assert!(slots.has_room());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_hysteresis_is_the_models(
            min in 0_u32..6, max in 0_u32..6, steps in prop::collection::vec(any::<bool>(), 0..80),
        ) {
            let slots = slots(min, max);
            let (mut active, mut shut) = (0, false);
            for take in steps {
                if take {
                    let allowed = max == 0 || (active < max && !shut);
                    prop_assert_eq!(slots.take(), allowed);
                    active += u32::from(allowed);
                    shut |= active == max;
                } else if active > 0 {
                    slots.release();
                    active -= 1;
                    shut &= active >= if min == 0 { max } else { min.min(max) };
                }
                prop_assert_eq!(slots.active(), active);
            }
        }
    }
}
