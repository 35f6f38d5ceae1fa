//! Divides a file into parts, and compares the parts in a store with that division.

use std::collections::BTreeMap;
use std::fmt;

use super::limits::{MAX_OBJECT_SIZE, MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE};

/// A part size that is larger than preferred is a multiple of this, in bytes.
const STEP: u64 = 1 << 20;

/// The largest number of part numbers in an error message.
const MAX_NAMED: usize = 20;

/// The division of a file of known size into parts of one size. The last part can be smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlan {
    size: u64,
    part_size: u64,
}

impl PartPlan {
    /// A plan for `size` bytes with parts of `preferred` bytes, or larger parts if there would
    /// be more than [`MAX_PARTS`]. `None` if no multipart upload can have that size.
    pub fn new(size: u64, preferred: u64) -> Option<Self> {
        let least = size.div_ceil(u64::from(MAX_PARTS)).next_multiple_of(STEP);
        let part_size = preferred.clamp(MIN_PART_SIZE, MAX_PART_SIZE).max(least);
        Self::stored(size, part_size).filter(|_| size <= MAX_OBJECT_SIZE)
    }

    /// A plan read from the database. `None` if the values are invalid.
    pub fn stored(size: u64, part_size: u64) -> Option<Self> {
        let valid = size > 0 && part_size > 0 && size.div_ceil(part_size) <= u64::from(MAX_PARTS);
        valid.then_some(Self { size, part_size })
    }

    /// The size of every part except the last, in bytes.
    pub fn part_size(self) -> u64 {
        self.part_size
    }

    /// The number of parts. Part numbers run from 1 to this.
    pub fn part_count(self) -> u16 {
        u16::try_from(self.size.div_ceil(self.part_size)).unwrap_or(MAX_PARTS)
    }

    /// The size of one part in bytes. `None` if the number is out of range.
    pub fn len_of(self, number: u16) -> Option<u64> {
        let count = self.part_count();
        match number {
            0 => None,
            n if n < count => Some(self.part_size),
            n if n == count => Some(self.size - self.part_size * u64::from(count - 1)),
            _ => None,
        }
    }

    /// Compares the stored parts (number and size, ascending by number) with the plan.
    pub fn check(self, stored: impl IntoIterator<Item = (u16, u64)>) -> Result<(), PartsMismatch> {
        let mut found = PartsMismatch::default();
        let mut next = 1;
        for (number, size) in stored {
            let Some(expected) = self.len_of(number) else {
                found.unexpected.push(number);
                continue;
            };
            found.missing.extend(next..number);
            next = number + 1;
            if size != expected {
                found.wrong.push(WrongPart { number, size, expected });
            }
        }
        found.missing.extend(next..=self.part_count());
        if found == PartsMismatch::default() { Ok(()) } else { Err(found) }
    }
}

/// How a multipart upload is divided into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Division {
    /// The service divided it in advance, because the size of the file was declared.
    Planned(PartPlan),
    /// The client divides it while it sends the file. Only the client knows the number of parts.
    ByClient,
}

impl Division {
    /// Whether this is the number of a possible part.
    pub fn has(self, number: u16) -> bool {
        match self {
            Self::Planned(plan) => plan.len_of(number).is_some(),
            Self::ByClient => (1..=MAX_PARTS).contains(&number),
        }
    }

    /// The size of a part in bytes, if the service knows it.
    pub fn len_of(self, number: u16) -> Option<u64> {
        match self {
            Self::Planned(plan) => plan.len_of(number),
            Self::ByClient => None,
        }
    }

    /// The largest number of a part.
    pub fn part_count(self) -> u16 {
        match self {
            Self::Planned(plan) => plan.part_count(),
            Self::ByClient => MAX_PARTS,
        }
    }
}

/// A part in the client's own list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPart {
    /// The part number, from 1.
    pub number: u16,
    /// The ETag that the store returned, without quotes.
    pub etag: String,
}

/// Compares the client's list of parts with the stored parts (number and ETag). The list must be
/// numbered from 1 without a gap, and each part must be stored with this ETag. Other stored parts
/// do not become part of the object.
pub fn check_sent<'a>(
    sent: &[SentPart],
    stored: impl IntoIterator<Item = (u16, &'a str)>,
) -> Result<(), PartsMismatch> {
    let stored: BTreeMap<u16, &str> = stored.into_iter().collect();
    let mut found = PartsMismatch::default();
    let mut next = 1;
    for part in sent {
        if part.number < next {
            found.unexpected.push(part.number);
            continue;
        }
        found.missing.extend(next..part.number);
        next = part.number.saturating_add(1);
        if stored.get(&part.number) != Some(&part.etag.as_str()) {
            found.missing.push(part.number);
        }
    }
    if sent.is_empty() {
        found.missing.push(1);
    }
    if found == PartsMismatch::default() { Ok(()) } else { Err(found) }
}

/// A part whose size differs from the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongPart {
    /// Its number.
    pub number: u16,
    /// Its size in bytes.
    pub size: u64,
    /// The size it should have.
    pub expected: u64,
}

/// The differences between the stored parts and the plan, or the client's own list of parts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PartsMismatch {
    /// Numbers of parts that are not stored, or are stored with another ETag than in the client's
    /// list. Ascending.
    pub missing: Vec<u16>,
    /// Parts whose size differs from the plan.
    pub wrong: Vec<WrongPart>,
    /// Part numbers outside the plan, or not ascending in the client's list.
    pub unexpected: Vec<u16>,
}

impl fmt::Display for PartsMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong: Vec<u16> = self.wrong.iter().map(|part| part.number).collect();
        let mut between = "";
        for (what, numbers) in [
            ("missing parts", &self.missing),
            ("parts of another size", &wrong),
            ("unexpected parts", &self.unexpected),
        ] {
            if !numbers.is_empty() {
                write!(f, "{between}{what}: {}", ranges(numbers))?;
                between = "; ";
            }
        }
        Ok(())
    }
}

impl std::error::Error for PartsMismatch {}

/// Formats ascending numbers as ranges: `1-3, 7`.
fn ranges(numbers: &[u16]) -> String {
    let mut ranges_text = Vec::new();
    for run in numbers.chunk_by(|a, b| a + 1 == *b) {
        if ranges_text.len() == MAX_NAMED {
            ranges_text.push("...".to_owned());
            break;
        }
        ranges_text.push(match run {
            [first, .., last] => format!("{first}-{last}"),
            run => run.iter().map(u16::to_string).collect(),
        });
    }
    ranges_text.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn whole(plan: PartPlan) -> Vec<(u16, u64)> {
        (1..=plan.part_count()).filter_map(|n| Some((n, plan.len_of(n)?))).collect()
    }

    #[test]
    fn sizes_up_to_the_limits_have_a_plan_and_larger_sizes_have_none() {
        for (size, preferred, part_size, count) in [
            (1, 16 * MIB, 16 * MIB, 1),
            (5 * MIB - 1, 0, 5 * MIB, 1),
            (5 * MIB, 0, 5 * MIB, 1),
            (5 * MIB + 1, 0, 5 * MIB, 2),
            ((5 << 30) + 1, 16 * MIB, 16 * MIB, 321),
            (160_000 * MIB, 16 * MIB, 16 * MIB, 10_000),
            (160_000 * MIB + 1, 16 * MIB, 17 * MIB, 9412),
            (MAX_OBJECT_SIZE, 16 * MIB, 525 * MIB, 9987),
            (MAX_OBJECT_SIZE, u64::MAX, MAX_PART_SIZE, 1024),
        ] {
            let plan = PartPlan::new(size, preferred).unwrap();
            assert_eq!((plan.part_size(), plan.part_count()), (part_size, count), "{size}");
        }
        assert_eq!(PartPlan::new(0, 16 * MIB), None);
        assert_eq!(PartPlan::new(MAX_OBJECT_SIZE + 1, 16 * MIB), None);
        assert_eq!(PartPlan::stored(10, 0), None);
    }

    #[test]
    fn wrong_parts_are_named() {
        let plan = PartPlan::new(50 * MIB + 1, 5 * MIB).unwrap();
        let stored = [(2, 5 * MIB), (3, 5 * MIB), (7, 9), (11, 1), (12, 1)];
        let wrong = plan.check(stored).unwrap_err();
        assert_eq!(wrong.missing, [1, 4, 5, 6, 8, 9, 10]);
        assert_eq!(wrong.wrong, [WrongPart { number: 7, size: 9, expected: 5 * MIB }]);
        let text = "missing parts: 1, 4-6, 8-10; parts of another size: 7; unexpected parts: 12";
        assert_eq!(wrong.to_string(), text);
        assert_eq!(plan.check([]).unwrap_err().to_string(), "missing parts: 1-11");
    }

    #[test]
    fn the_parts_of_the_client_must_be_stored_without_a_gap() {
        let part = |number, etag: &str| SentPart { number, etag: etag.to_owned() };
        let stored = [(1, "a"), (2, "b"), (3, "c")];
        let check = |sent: &[SentPart]| check_sent(sent, stored);
        assert_eq!(check(&[part(1, "a"), part(2, "b"), part(3, "c")]), Ok(()));
        assert_eq!(check(&[part(1, "a"), part(2, "b")]), Ok(()), "part 3 is ignored");
        let missing = |sent: &[SentPart]| check(sent).unwrap_err().missing;
        assert_eq!(missing(&[]), [1]);
        assert_eq!(missing(&[part(1, "a"), part(3, "c")]), [2]);
        assert_eq!(missing(&[part(1, "a"), part(2, "changed")]), [2]);
        assert_eq!(missing(&[part(1, "a"), part(2, "b"), part(3, "c"), part(4, "d")]), [4]);
        let twice = check(&[part(1, "a"), part(1, "a")]).unwrap_err();
        assert_eq!(twice.unexpected, [1]);
        assert!(check(&[part(0, "a")]).is_err());
        assert!(check(&[part(u16::MAX, "a")]).is_err());
    }

    proptest! {
        #[test]
        fn every_plan_keeps_within_the_limits_and_adds_up(
            size in 1..=MAX_OBJECT_SIZE,
            preferred in prop_oneof![0..=MAX_PART_SIZE, any::<u64>()],
        ) {
            let plan = PartPlan::new(size, preferred).unwrap();
            prop_assert!((MIN_PART_SIZE..=MAX_PART_SIZE).contains(&plan.part_size()));
            prop_assert!((1..=MAX_PARTS).contains(&plan.part_count()));
            let parts = whole(plan);
            prop_assert_eq!(parts.iter().map(|(_, len)| len).sum::<u64>(), size);
            prop_assert!(parts.iter().all(|(_, len)| *len >= 1 && *len <= plan.part_size()));
            prop_assert_eq!(PartPlan::stored(size, plan.part_size()), Some(plan));
        }

        #[test]
        fn any_list_of_parts_is_checked_and_only_the_whole_file_passes(
            (size, part_size) in (1..=40_u64, 1..=9_u64),
            mut stored in prop::collection::vec((0..=9_u16, 0..=9_u64), 0..12),
            wild in prop::collection::vec(any::<(u16, u64)>(), 0..3),
            sizes in any::<(u64, u64)>(),
        ) {
            let plan = PartPlan::stored(size, part_size).unwrap();
            let _ = plan.check(stored.iter().chain(&wild).copied());
            // A store lists each part once, in order.
            stored.sort_by_key(|part| part.0);
            stored.dedup_by_key(|part| part.0);
            let checked = plan.check(stored.clone());
            prop_assert_eq!(checked.is_ok(), stored == whole(plan));
            if let Err(mismatch) = checked {
                prop_assert!(!mismatch.to_string().is_empty());
            }
            let of_a_row = PartPlan::stored(sizes.0, sizes.1);
            prop_assert!(of_a_row.is_none_or(|plan| plan.part_count() <= MAX_PARTS));
        }

        #[test]
        fn the_error_about_parts_is_always_short(
            stored in prop::collection::btree_map(any::<u16>(), 0..2_u64, 0..400),
        ) {
            let plan = PartPlan::stored(u64::from(MAX_PARTS), 1).unwrap();
            let text = plan.check(stored).unwrap_err().to_string();
            prop_assert!(text.len() < 1000, "{}", text);
        }

        #[test]
        fn a_missing_or_longer_part_is_found(
            size in 1..200 * MIB,
            lost in any::<prop::sample::Index>(),
            off in 1..100_u64,
        ) {
            let plan = PartPlan::new(size, MIN_PART_SIZE).unwrap();
            let parts = whole(plan);
            prop_assert_eq!(plan.check(parts.clone()), Ok(()));
            let n = lost.index(parts.len());
            let mut hole = parts.clone();
            let (number, _) = hole.remove(n);
            prop_assert_eq!(plan.check(hole).unwrap_err().missing, [number]);
            let mut long = parts;
            long[n].1 += off;
            prop_assert_eq!(plan.check(long).unwrap_err().wrong.len(), 1);
        }
    }
}
