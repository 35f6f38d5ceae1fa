//! A limit on concurrent long operations, in total and per owner, so that one owner cannot use
//! the whole limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Owner;

/// Counts the permits in use. Each running operation holds one [`Permit`].
#[derive(Debug)]
pub struct ConcurrencyLimit(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    total_limit: usize,
    owner_limit: usize,
    total: usize,
    by_owner: HashMap<Owner, usize>,
}

/// Which limit refused a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The total limit.
    Total,
    /// The limit per owner, with its value.
    PerOwner(usize),
}

/// One operation within the limit. Dropping it frees the permit.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<ConcurrencyLimit>,
    owner: Owner,
}

impl ConcurrencyLimit {
    /// At most `total_limit` permits, of which one owner holds at most `owner_limit`.
    pub fn new(total_limit: usize, owner_limit: usize) -> Self {
        let by_owner = HashMap::new();
        Self(Mutex::new(Counts { total_limit, owner_limit, total: 0, by_owner }))
    }

    /// No limit.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }

    /// Changes both limits. Permits in use stay valid.
    pub fn set_limits(&self, total_limit: usize, owner_limit: usize) {
        let mut counts = self.lock();
        (counts.total_limit, counts.owner_limit) = (total_limit, owner_limit);
    }

    /// The number of permits in use.
    pub fn in_use(&self) -> usize {
        self.lock().total
    }

    /// Takes a permit for an owner, or returns the limit that is reached.
    pub fn acquire(self: &Arc<Self>, owner: &Owner) -> Result<Permit, LimitReached> {
        let mut counts = self.lock();
        if counts.total >= counts.total_limit {
            return Err(LimitReached::Total);
        }
        let owner_limit = counts.owner_limit;
        match counts.by_owner.get_mut(owner) {
            Some(own) if *own >= owner_limit => return Err(LimitReached::PerOwner(owner_limit)),
            Some(own) => *own += 1,
            None if owner_limit == 0 => return Err(LimitReached::PerOwner(owner_limit)),
            None => {
                counts.by_owner.insert(owner.clone(), 1);
            }
        }
        counts.total += 1;
        drop(counts);
        Ok(Permit { limit: Arc::clone(self), owner: owner.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Each method leaves the counts consistent, so a poisoned lock is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limit.lock();
        counts.total = counts.total.saturating_sub(1);
        // Owners without a permit are removed, so the map holds only active owners.
        match counts.by_owner.get_mut(&self.owner) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                counts.by_owner.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_cannot_use_the_whole_limit() {
        let limit = Arc::new(ConcurrencyLimit::new(3, 2));
        let (ann, bob, cat) = (Owner::named("ann"), Owner::named("bob"), Owner::named("cat"));
        let first = limit.acquire(&ann).unwrap();
        let _second = limit.acquire(&ann).unwrap();
        assert_eq!(limit.acquire(&ann).unwrap_err(), LimitReached::PerOwner(2));
        let _third = limit.acquire(&bob).unwrap();
        assert_eq!(limit.acquire(&bob).unwrap_err(), LimitReached::Total);
        drop(first);
        assert_eq!(limit.in_use(), 2);
        let _fourth = limit.acquire(&cat).unwrap();
        assert_eq!(limit.acquire(&ann).unwrap_err(), LimitReached::Total);
        limit.set_limits(10, 2);
        let _fifth = limit.acquire(&ann).unwrap();
    }

    #[test]
    fn owners_without_a_permit_are_removed() {
        let limit = Arc::new(ConcurrencyLimit::unlimited());
        let permits: Vec<_> =
            (0..10).map(|n| limit.acquire(&Owner::named(format!("o{}", n % 3))).unwrap()).collect();
        assert_eq!((limit.in_use(), limit.lock().by_owner.len()), (10, 3));
        drop(permits);
        assert_eq!((limit.in_use(), limit.lock().by_owner.len()), (0, 0));
    }
}
