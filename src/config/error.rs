//! A configuration error: one sentence that begins with the key.

use std::fmt;

/// A problem of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    key: String,
    problem: String,
    origin: Option<String>,
}

impl ConfigError {
    /// A problem of a key, for example `must be a whole number, not "x"`.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into(), origin: None }
    }

    /// Adds the source of the value, for example `in upload.toml`.
    #[must_use]
    pub fn in_origin(mut self, origin: Option<&str>) -> Self {
        self.origin = origin.map(str::to_owned).or(self.origin);
        self
    }

    /// The full key, for example `policies.tracks.max_size`, or the path of a file that can't be
    /// read.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
