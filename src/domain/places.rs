//! Places for what takes long: so many in all, and so many for each owner, so that one owner
//! can't take them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Owner;

/// Places that can be taken.
#[derive(Debug)]
pub struct Places(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    limit: usize,
    share: usize,
    all: usize,
    by_owner: HashMap<Owner, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// The owner has as many as one may have.
    Share(usize),
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    owner: Owner,
}

impl Places {
    /// So many places, and so many for each owner.
    pub fn new(limit: usize, share: usize) -> Self {
        Self(Mutex::new(Taken { limit, share, all: 0, by_owner: HashMap::new() }))
    }

    /// As many as one likes.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }

    /// Other limits from now on; places that are taken stay so.
    pub fn limit(&self, limit: usize, share: usize) {
        let mut taken = self.lock();
        (taken.limit, taken.share) = (limit, share);
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.lock().all
    }

    /// Takes a place for an owner.
    pub fn take(self: &Arc<Self>, owner: &Owner) -> Result<Place, Full> {
        let mut taken = self.lock();
        if taken.all >= taken.limit {
            return Err(Full::All);
        }
        let share = taken.share;
        match taken.by_owner.get_mut(owner) {
            Some(own) if *own >= share => return Err(Full::Share(share)),
            Some(own) => *own += 1,
            None if share == 0 => return Err(Full::Share(share)),
            None => {
                taken.by_owner.insert(owner.clone(), 1);
            }
        }
        taken.all += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), owner: owner.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // The counts are right between any two statements of their users.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        // Who has none is forgotten.
        match taken.by_owner.get_mut(&self.owner) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.by_owner.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_takes_its_share_and_leaves_the_rest_to_others() {
        let places = Arc::new(Places::new(3, 2));
        let (ann, bob, cat) = (Owner::named("ann"), Owner::named("bob"), Owner::named("cat"));
        let first = places.take(&ann).unwrap();
        let _second = places.take(&ann).unwrap();
        assert_eq!(places.take(&ann).unwrap_err(), Full::Share(2));
        let _third = places.take(&bob).unwrap();
        assert_eq!(places.take(&bob).unwrap_err(), Full::All);
        drop(first);
        assert_eq!(places.taken(), 2);
        let _fourth = places.take(&cat).unwrap();
        assert_eq!(places.take(&ann).unwrap_err(), Full::All);
        places.limit(10, 2);
        let _fifth = places.take(&ann).unwrap();
    }

    #[test]
    fn owners_without_a_place_are_forgotten() {
        let places = Arc::new(Places::unlimited());
        let taken: Vec<_> =
            (0..10).map(|n| places.take(&Owner::named(format!("o{}", n % 3))).unwrap()).collect();
        assert_eq!((places.taken(), places.lock().by_owner.len()), (10, 3));
        drop(taken);
        assert_eq!((places.taken(), places.lock().by_owner.len()), (0, 0));
    }
}
