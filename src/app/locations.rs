//! The locations of uploads. A location is the store, bucket and prefix of a policy's objects. An
//! upload's row names its location by a number. The configuration decides the location of new
//! uploads.
//!
//! A configured location is stored in the database with its number before the first upload goes
//! there. So processes with different configurations, and a restart with an earlier configuration,
//! use the same numbers.

use std::sync::{Arc, PoisonError, RwLock};

use super::{App, AppError, MAX_TRIES, Result};
use crate::db::DbError;
use crate::domain::{Location, LocationNumber, Policy, PolicyName, Upload};
use crate::storage::Store;

/// The locations as this process read them last.
#[derive(Debug, Default)]
pub struct Locations(RwLock<Vec<Arc<Location>>>);

impl Locations {
    fn find(&self, matches: impl Fn(&Location) -> bool) -> Option<Arc<Location>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|location| matches(location)).cloned()
    }

    /// All locations, in the order of their policies and numbers.
    pub(super) fn all(&self) -> Vec<Arc<Location>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, locations: Vec<Location>) {
        let locations = locations.into_iter().map(Arc::new).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = locations;
    }
}

impl App {
    /// Stores the configured location of each policy, unless it is known.
    ///
    /// # Errors
    /// If the store of a policy is not configured, or the database fails.
    pub async fn register_locations(&self) -> Result<()> {
        for policy in self.policies.values() {
            self.current_location(policy).await?;
        }
        self.find_renamed_stores().await
    }

    /// Finds former locations whose store was renamed in the configuration, and records the new
    /// name. The marker in the bucket proves that it is the same bucket, because buckets of
    /// different stores can have the same name.
    async fn find_renamed_stores(&self) -> Result<()> {
        for location in self.locations.all() {
            if self.store_at(&location).is_ok() {
                continue;
            }
            for store in self.stores.values().filter(|store| store.bucket == location.bucket) {
                match self.has_marker_of(&location, store).await {
                    Ok(true) => {
                        self.db.locations().rename_store(&location, &store.name).await?;
                        self.reload_locations().await?;
                        break;
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(policy = %location.policy, store = store.name,
                        error = &error as &dyn std::error::Error,
                        "it is unknown whether the store has the files of a former location; the next \
                         start checks it again"),
                }
            }
        }
        Ok(())
    }

    /// The location of new uploads of a policy.
    ///
    /// # Errors
    /// If the policy's store is not configured, or the database fails.
    pub async fn current_location(&self, policy: &Policy) -> Result<Arc<Location>> {
        match self.find_current(policy)? {
            Some(location) => Ok(location),
            None => self.register_location(policy).await,
        }
    }

    /// All locations of a policy in the order of their numbers, including those that other
    /// processes have added.
    ///
    /// # Errors
    /// If the database fails. A policy whose store is not configured has its former locations only.
    pub async fn locations_of(&self, policy: &Policy) -> Result<Vec<Arc<Location>>> {
        self.reload_locations().await?;
        match self.current_location(policy).await {
            Ok(_) | Err(AppError::Unconfigured(_)) => {}
            Err(error) => return Err(error),
        }
        let mut locations = self.locations.all();
        locations.retain(|location| location.policy == policy.name);
        Ok(locations)
    }

    /// The former locations of a policy on a store.
    ///
    /// # Errors
    /// If there is none, as an error about the field `from`, or the database fails.
    pub async fn former_locations(
        &self,
        policy: &Policy,
        from: &str,
    ) -> Result<Vec<Arc<Location>>> {
        let mut locations = self.locations_of(policy).await?;
        let current = self.current_location(policy).await?;
        locations.retain(|location| location.store == from && location.number != current.number);
        if !locations.is_empty() {
            return Ok(locations);
        }
        let name = &policy.name;
        Err(AppError::field(
            "from",
            if current.store == from {
                format!("`{from}` is the store of the current location of the policy `{name}`")
            } else {
                format!("The policy `{name}` has no former location on the store `{from}`")
            },
        ))
    }

    /// The location of an upload's object. A location is stored before the first upload has its
    /// number, and never deleted.
    ///
    /// # Errors
    /// If there is no such location ([`DbError::Corrupt`]), or the database fails.
    pub async fn location_of(&self, upload: &Upload) -> Result<Arc<Location>> {
        let found = self.find_location(&upload.policy, upload.location).await?;
        found.ok_or_else(|| {
            let id = upload.id.to_string();
            DbError::Corrupt { table: "uploads", column: "location", id }.into()
        })
    }

    /// A location of a policy.
    ///
    /// # Errors
    /// If there is no such location ([`AppError::Unconfigured`]), or the database fails.
    pub async fn location(
        &self,
        policy: &PolicyName,
        number: LocationNumber,
    ) -> Result<Arc<Location>> {
        let found = self.find_location(policy, number).await?;
        found.ok_or_else(|| {
            AppError::Unconfigured(format!("location {number} of policies.{policy}"))
        })
    }

    /// Reads the locations again if the number is unknown, because another process may have added
    /// it.
    async fn find_location(
        &self,
        policy: &PolicyName,
        number: LocationNumber,
    ) -> Result<Option<Arc<Location>>> {
        let find =
            || self.locations.find(|known| known.policy == *policy && known.number == number);
        if let Some(location) = find() {
            return Ok(Some(location));
        }
        self.reload_locations().await?;
        if let Some(location) = find() {
            return Ok(Some(location));
        }
        // Rows of an older version belong to location 0, which may not be stored yet.
        if let Some(policy) = self.policies.get(policy) {
            self.register_location(policy).await?;
        }
        Ok(find())
    }

    /// The store of a location.
    ///
    /// # Errors
    /// If the store is not configured any more, or is configured with another bucket
    /// ([`AppError::StoreUnconfigured`]).
    pub fn store_at(&self, location: &Location) -> Result<&Store> {
        let Location { store, bucket, .. } = location;
        let found = self.stores.get(store).filter(|found| found.bucket == *bucket);
        found.ok_or_else(|| AppError::StoreUnconfigured {
            store: store.clone(),
            bucket: bucket.clone(),
        })
    }

    /// The configured location of a policy. Does not store it, for commands that must not write or
    /// know only some of the stores.
    ///
    /// # Errors
    /// If the policy's store is not configured, or the database fails.
    pub async fn configured_location(&self, policy: &Policy) -> Result<Arc<Location>> {
        self.reload_locations().await?;
        if let Some(known) = self.find_current(policy)? {
            return Ok(known);
        }
        let mut own = self.locations.all();
        own.retain(|location| location.policy == policy.name);
        Ok(Arc::new(next_location(policy, self.store_of(policy)?, &own)))
    }

    /// The name of the store of an upload, as far as this process knows the locations.
    pub fn store_name(&self, upload: &Upload) -> Option<String> {
        let is_of =
            |known: &Location| known.policy == upload.policy && known.number == upload.location;
        self.locations.find(is_of).map(|location| location.store.clone())
    }

    fn find_current(&self, policy: &Policy) -> Result<Option<Arc<Location>>> {
        let store = self.store_of(policy)?;
        Ok(self.locations.find(|known| {
            known.policy == policy.name
                && known.store == policy.store
                && known.bucket == store.bucket
                && known.prefix == policy.prefix
        }))
    }

    async fn reload_locations(&self) -> Result<()> {
        let mut locations = self.db.locations().list().await?;
        for location in &mut locations {
            if self.store_at(location).is_ok() {
                continue;
            }
            // Another process renamed the location's store. This process still uses the old name.
            let known = self.locations.find(|known| {
                let named = Location { store: known.store.clone(), ..location.clone() };
                *known == named && self.store_at(known).is_ok()
            });
            if let Some(known) = known {
                location.store.clone_from(&known.store);
            }
        }
        self.locations.set(locations);
        Ok(())
    }

    /// Stores the configured location of a policy. Several processes may do this at the same time.
    /// The database accepts each location and each number once, so each process reads the locations
    /// again after it has added one.
    async fn register_location(&self, policy: &Policy) -> Result<Arc<Location>> {
        let store = self.store_of(policy)?;
        for _ in 0..MAX_TRIES {
            self.reload_locations().await?;
            if let Some(known) = self.find_current(policy)? {
                return Ok(known);
            }
            let mut own = self.locations.all();
            own.retain(|location| location.policy == policy.name);
            let is_renamed = |known: &&Arc<Location>| {
                known.bucket == store.bucket
                    && known.prefix == policy.prefix
                    && self.store_at(known).is_err()
            };
            let mut renamed = None;
            for known in own.iter().filter(is_renamed) {
                if self.has_marker_of(known, store).await? {
                    renamed = Some(known);
                    break;
                }
            }
            if let Some(known) = renamed {
                tracing::info!(policy = %policy.name, number = %known.number, from = known.store,
                    to = policy.store, "the store of a location has a new name");
                self.db.locations().rename_store(known, &policy.store).await?;
                continue;
            }
            let configured = next_location(policy, store, &own);
            let new = if own.is_empty() {
                self.first_location(policy, configured).await?
            } else {
                configured
            };
            tracing::info!(policy = %policy.name, number = %new.number, store = new.store,
                bucket = new.bucket, prefix = %new.prefix, "a policy has a new location");
            self.db.locations().add(&new, self.now()).await?;
        }
        Err(AppError::Contended)
    }

    /// The location of the uploads that were created by versions without locations. It is the
    /// configured location, unless the configuration was changed together with the version. So the
    /// prefix is taken from the newest key, and the bucket from the markers in the database.
    async fn first_location(&self, policy: &Policy, configured: Location) -> Result<Location> {
        let locations = self.db.locations();
        let key = locations.newest_key(&policy.name).await?;
        let Some(prefix) = key.and_then(|key| key.prefix()) else { return Ok(configured) };
        let mut marked = locations.marked_buckets(&prefix).await?;
        let is_unknown = |store: &str| !self.stores.contains_key(store);
        let is_at = |store: &str, bucket: &str, at: &str| {
            self.stores.get(at).is_some_and(|of| of.bucket == bucket)
                && (store == at || is_unknown(store))
        };
        let is_here = marked.iter().any(|m| is_at(&m.store, &m.bucket, &policy.store));
        // Ignore the markers of other policies that use the same prefix in other buckets.
        marked.retain(|m| {
            let of_other = |other: &Policy| {
                other.name != policy.name
                    && other.prefix == prefix
                    && is_at(&m.store, &m.bucket, &other.store)
            };
            !self.policies.values().any(of_other)
        });
        let Some(newest) = marked.into_iter().next().filter(|_| !is_here) else {
            return Ok(Location { prefix, ..configured });
        };
        let with_bucket = self.stores.values().find(|store| store.bucket == newest.bucket);
        let store = match with_bucket {
            Some(store) if is_unknown(&newest.store) => store.name.clone(),
            _ => newest.store,
        };
        Ok(Location { prefix, store, bucket: newest.bucket, ..configured })
    }
}

/// The configured location of a policy, with the next number.
fn next_location(policy: &Policy, store: &Store, known: &[Arc<Location>]) -> Location {
    Location {
        policy: policy.name.clone(),
        number: LocationNumber(known.last().map_or(0, |last| last.number.0 + 1)),
        store: policy.store.clone(),
        bucket: store.bucket.clone(),
        prefix: policy.prefix.clone(),
    }
}
