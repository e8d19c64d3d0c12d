//! Random numbers that spread out what would otherwise happen at once. A seed makes a run repeatable.

/// xorshift64*, since spreading needs no better randomness.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero would stay zero for ever.
        Self(seed | 1)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The upper bits are the better ones.
        let [_, _, _, _, number @ ..] = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
        low + u32::from_le_bytes(number) % (high - low + 1)
    }
}
