//! How much damage may be done. Damage is what is taken from somebody who did not ask: a verified
//! upload that becomes missing or rejected, and the deletion of a once verified object that no
//! owner and no newer upload ended. One loss happens; thousands mean a wrong bucket.

/// How much damage a run, or single requests in one hour, may do under one policy.
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
    /// The limit if nothing is verified: damage up to this is within the limit of every policy.
    pub fn lowest(self) -> u64 {
        self.min.min(self.max)
    }

    /// The limit of a policy with so many verified uploads.
    pub fn of(self, verified: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count needs no last digit, and is never negative"
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
