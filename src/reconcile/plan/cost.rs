//! The request costs of the ways to reconcile the open rows of a range.

use crate::domain::limits::MAX_PAGE;

/// The price of two LIST requests, in HEAD requests. S3 Standard in `us-east-1` costs 5.00 dollars
/// for a million LISTs and 0.40 dollars for a million HEADs, so one LIST costs 12.5 HEADs.
pub(super) const HEADS_PER_TWO_LISTS: u64 = 25;

/// A way to reconcile the open rows of a range: send a HEAD for each of the first `heads` rows, and
/// list from the next row on. The listing has about `keys` keys; `keys` is `None` if all rows get a
/// HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) heads: usize,
    pub(super) keys: Option<u64>,
}

impl Cut {
    /// The cost, in units of half a HEAD.
    fn cost(self) -> u64 {
        let pages = self.keys.map_or(0, |keys| keys / MAX_PAGE as u64 + 1);
        2 * self.heads as u64 + HEADS_PER_TWO_LISTS * pages
    }
}

/// Returns the cheapest cut. If several cost the same, returns the first.
pub(super) fn cheapest(cuts: impl IntoIterator<Item = Cut>) -> Option<Cut> {
    cuts.into_iter().min_by_key(|cut| cut.cost())
}

/// The numbers of HEADs to consider for `open` rows: 0, 1, 4, 16 and so on. One of these is always
/// close to the best cut.
pub(super) fn candidates(open: usize) -> impl Iterator<Item = usize> {
    let growing = std::iter::successors(Some(1_usize), |n| n.checked_mul(4));
    std::iter::once(0).chain(growing).take_while(move |heads| *heads < open)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cheaper_of_heads_and_a_listing_is_taken() {
        let cut = |heads, keys| Cut { heads, keys };
        // The number of open rows, the cuts with a listing, and the best cut.
        let table = [
            (12, vec![cut(0, Some(10))], cut(12, None)),
            (13, vec![cut(0, Some(10))], cut(0, Some(10))),
            // A long listing costs more than a HEAD for each row.
            (13, vec![cut(0, Some(5_000))], cut(13, None)),
            // One very old row, and many young rows.
            (300, vec![cut(0, Some(900_000)), cut(1, Some(400))], cut(1, Some(400))),
            (300, vec![cut(0, Some(1_000)), cut(16, Some(999))], cut(0, Some(1_000))),
            (300, vec![cut(0, Some(2_000)), cut(8, Some(999))], cut(8, Some(999))),
        ];
        for (open, mut cuts, best) in table {
            cuts.insert(0, cut(open, None));
            assert_eq!(cheapest(cuts.clone()), Some(best), "{cuts:?}");
        }
        assert_eq!(cheapest([]), None);
    }

    #[test]
    fn candidates_grow_and_leave_at_least_one_row_to_list() {
        assert_eq!(candidates(0).count(), 0);
        assert_eq!(candidates(1).collect::<Vec<_>>(), [0]);
        assert_eq!(candidates(9).collect::<Vec<_>>(), [0, 1, 4]);
    }

    proptest! {
        #[test]
        fn no_cut_costs_less_than_the_cheapest(
            cuts in prop::collection::vec((0..600_usize, prop::option::of(0..2_000_000_u64)), 1..12),
        ) {
            let cuts: Vec<_> = cuts.into_iter().map(|(heads, keys)| Cut { heads, keys }).collect();
            let best = cheapest(cuts.clone()).unwrap();
            // The cost in dollars, computed independently of the code.
            let dollars = |cut: &Cut| {
                let lists = cut.keys.map_or(0, |keys| keys / 1_000 + 1);
                u128::from(lists) * 500 + cut.heads as u128 * 40
            };
            prop_assert!(cuts.iter().all(|cut| dollars(cut) >= dollars(&best)));
        }
    }
}
