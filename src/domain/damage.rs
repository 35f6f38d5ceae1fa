//! The limit of damage. Damage is a loss that the owner did not request: a verified upload becomes
//! missing or rejected, or its object is deleted although the owner did not delete it and no newer
//! upload replaced it. Single losses happen, but thousands usually mean that the bucket is the
//! wrong one.

/// The limit of damage under one policy: of one run, or of one hour of all other requests and
/// events. It is a share (`ratio`) of the verified uploads, but at least `min` and at most `max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DamageLimit {
    /// The highest limit. It wins over `min`.
    pub max: u64,
    /// The lowest limit.
    pub min: u64,
    /// The limit as a share of the policy's verified uploads, from 0 to 1.
    pub ratio: f64,
}

impl Default for DamageLimit {
    fn default() -> Self {
        Self { max: 1000, min: 100, ratio: 0.01 }
    }
}

impl DamageLimit {
    /// The limit if nothing is verified. Every policy allows at least this much damage.
    pub fn lowest(self) -> u64 {
        self.min.min(self.max)
    }

    /// The limit of a policy with this many verified uploads.
    pub fn of(self, verified: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the result is never negative, and a small rounding error does not matter"
        )]
        let share = (self.ratio * verified as f64) as u64;
        self.max.min(self.min.max(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_share_of_the_verified_uploads_between_two_bounds() {
        let limit = DamageLimit::default();
        for (verified, expected) in
            [(0, 100), (10_000, 100), (50_000, 500), (100_000, 1000), (3_000_000, 1000)]
        {
            assert_eq!(limit.of(verified), expected, "{verified}");
        }
        let low = DamageLimit { max: 5, ..limit };
        assert_eq!((low.lowest(), low.of(1_000_000)), (5, 5), "the highest limit wins");
        let none = DamageLimit { max: 0, ..limit };
        assert_eq!(none.of(1_000_000), 0);
    }
}
