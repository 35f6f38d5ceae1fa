//! The places where a policy's objects are. The configuration says where new objects go; a change of
//! it adds a location, and the objects of earlier uploads stay where they are.

use std::fmt;

use super::key::Prefix;
use super::policy::PolicyName;

/// The number of a location: it counts the locations of a policy from 0 on. Rows have it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocationNumber(pub i32);

impl fmt::Display for LocationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place where a policy stores objects now, or did before.
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
    /// What the keys of the objects begin with.
    pub prefix: Prefix,
}
