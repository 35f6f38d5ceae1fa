//! The permissions of a caller. No scope includes another one.

use std::fmt;
use std::str::FromStr;

/// One permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Create, renew, confirm, complete and delete uploads, also of tracks, and send files.
    UploadsWrite,
    /// Read and watch uploads.
    UploadsRead,
    /// Create, change and delete tracks.
    TracksWrite,
    /// Read tracks and download their files.
    TracksRead,
    /// Administer what belongs to no owner: reconciliation, orphans, webhooks.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] =
        [Self::UploadsWrite, Self::UploadsRead, Self::TracksWrite, Self::TracksRead, Self::Admin];

    /// The name in tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UploadsWrite => "uploads:write",
            Self::UploadsRead => "uploads:read",
            Self::TracksWrite => "tracks:write",
            Self::TracksRead => "tracks:read",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("must be one of {names}")
        })
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether the set contains a scope.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes with these names. Other names are ignored, because they are for other services.
    pub fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(|name| name.parse::<Scope>().ok()).collect()
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope)).map(Scope::name)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    /// Space-separated, as in OAuth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_contains_only_the_scopes_it_was_made_of() {
        for scope in Scope::ALL {
            let one = Scopes::known([scope.name()]);
            let has: Vec<_> = Scope::ALL.into_iter().filter(|other| one.has(*other)).collect();
            assert_eq!(has, [scope], "no scope includes another one");
            assert_eq!(one.to_string().parse(), Ok(scope));
        }
        assert!(Scopes::known(["ADMIN", "admin:x", "", "uploads"]).is_empty());
        assert_eq!(Scopes::known(Scopes::all().to_string().split(' ')), Scopes::all());
    }
}
