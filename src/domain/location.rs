//! Locations: the store, bucket and prefix of a policy's objects. New objects are written to the
//! configured location. If the configuration changes, a location is added, and the objects of
//! earlier uploads remain at their location until they are moved.

use std::fmt;

use super::key::Prefix;
use super::policy::PolicyName;

/// The number of a location among those of its policy, from 0. The rows of uploads contain it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocationNumber(pub i32);

impl fmt::Display for LocationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The current location of a policy's objects, or a former one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The policy.
    pub policy: PolicyName,
    /// Its number among the locations of the policy.
    pub number: LocationNumber,
    /// The name of the store in the configuration.
    pub store: String,
    /// The store's bucket.
    pub bucket: String,
    /// The prefix of the objects' keys.
    pub prefix: Prefix,
}
