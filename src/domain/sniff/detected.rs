//! The result of the detection.

use super::magic::GENERIC;
use super::names::canonical;

/// XML formats that are recognised by their root element. For these, the suffix `+xml` alone is not
/// enough.
const OWN_ROOT: [&str; 2] = ["image/svg+xml", "application/xhtml+xml"];

/// The media types that fit the first bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// Canonical names, the best one first. Several names if formats share a magic number.
    names: Vec<&'static str>,
    /// Any type with this suffix fits as well, for example `+xml`.
    suffix: Option<&'static str>,
    /// The bytes are plain text that happens to start like this format.
    weak: bool,
}

impl Detected {
    pub(super) fn new(names: impl Into<Vec<&'static str>>) -> Self {
        Self { names: names.into(), suffix: None, weak: false }
    }

    pub(super) fn with_suffix(self, suffix: &'static str) -> Self {
        Self { suffix: Some(suffix), ..self }
    }

    pub(super) fn weak_if(self, weak: bool) -> Self {
        Self { weak, ..self }
    }

    /// The best name.
    pub fn best(&self) -> &'static str {
        self.names.first().copied().unwrap_or(GENERIC)
    }

    /// Whether a media type fits the bytes.
    pub fn fits(&self, media_type: &str) -> bool {
        let expected = canonical(media_type);
        let by_suffix = |suffix: &str| expected.ends_with(suffix) && !OWN_ROOT.contains(&expected);
        self.names.iter().any(|name| canonical(name) == expected)
            || self.suffix.is_some_and(by_suffix)
    }

    /// Whether the bytes may also be plain text.
    pub fn is_weak(&self) -> bool {
        self.weak
    }
}
