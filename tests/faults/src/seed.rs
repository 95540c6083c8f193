//! Chance that can be had again: a seed decides the order of scenarios, the victims where several will do, and the moments.

use std::time::Duration;

/// A sequence of numbers that depends on its seed alone (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A sequence of its own for one scenario: what others drew before does not change it, so that a scenario tried alone is
    /// the same as among all.
    pub fn of(seed: u64, scenario: &str) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in scenario.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self::new(seed ^ hash)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        let number = self.number().checked_rem(end).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let index = self.below(among.len());
        among.get(index)
    }

    /// A time shorter than `limit`, in whole milliseconds.
    pub fn moment(&mut self, limit: Duration) -> Duration {
        let limit = usize::try_from(limit.as_millis()).unwrap_or(usize::MAX);
        Duration::from_millis(u64::try_from(self.below(limit)).unwrap_or(0))
    }

    /// Puts these in another order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = self.below(last + 1);
            all.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_run() {
        let draw = |seed| {
            let mut chance = Chance::of(seed, "primary-killed");
            let mut order = [1, 2, 3, 4, 5, 6, 7, 8];
            chance.shuffle(&mut order);
            (order, chance.moment(Duration::from_secs(1)), chance.number())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_scenarios_chance_is_not_anothers() {
        assert_ne!(Chance::of(7, "a").number(), Chance::of(7, "b").number());
    }

    #[test]
    fn every_one_is_picked_at_some_time_and_none_from_none() {
        let mut chance = Chance::new(1);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[*chance.pick(&[0, 1, 2]).unwrap()] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(chance.pick::<u8>(&[]), None);
        assert_eq!(chance.moment(Duration::ZERO), Duration::ZERO);
    }
}
