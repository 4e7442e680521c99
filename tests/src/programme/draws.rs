//! Numbers that look random and are pure functions of integers.

/// What is drawn: each has a stream of its own, by its position.
#[derive(Debug, Clone, Copy)]
pub(super) enum Draw {
    Never,
    Visits,
    Level,
    Buys,
    Country,
    Device,
    Active,
    Sessions,
    Started,
    WatchA,
    WatchB,
    Missing,
    Rebuffers,
    Delay,
    DeviceOfSession,
    Late,
    File,
    Bought,
    Amount,
    LateBought,
    Participates,
    When,
    Allocated,
    Arm,
    Again,
    Crossed,
}

impl Draw {
    /// A number of 64 bits for a combination of keys.
    pub(super) fn of(self, keys: &[i64]) -> u64 {
        keys.iter().fold(mix(self as u64), |state, &key| mix(state ^ key.cast_unsigned()))
    }

    /// An integer from 0 to `n − 1` for a combination of keys.
    pub(super) fn below(self, n: i64, keys: &[i64]) -> i64 {
        remainder(self.of(keys), n)
    }
}

/// What a division of a number of 64 bits leaves.
pub(super) fn remainder(number: u64, by: i64) -> i64 {
    (number % by.cast_unsigned()).cast_signed()
}

/// A step of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
pub fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
