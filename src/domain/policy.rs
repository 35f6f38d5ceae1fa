//! A policy (the configuration of one kind of upload), and its rules for declared values. The rules
//! for received bytes are in [`super::rules`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::TimeDelta;

pub use super::ids::PolicyName;
use super::inspection::{Fallback, InspectorName};
use super::key::Prefix;
use super::media::MediaRules;
use super::object_settings::ObjectSettings;
use super::sniff;
use super::upload::Declared;

/// The longest filename, in bytes: the limit of common file systems.
pub const MAX_FILENAME_LEN: usize = 255;

/// What happens to bytes that arrive after their upload expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Late {
    /// They are verified and accepted, marked `late`.
    Accept,
    /// They are rejected with reason `late`.
    Reject,
}

/// What happens to a verified object whose bytes change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overwrite {
    /// The new bytes are verified again.
    Accept,
    /// The upload is rejected with reason `overwritten`.
    Reject,
}

/// The configuration of one kind of upload.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// The store's name: `[storage.<name>]`.
    pub store: String,
    /// The prefix of its keys.
    pub prefix: Prefix,
    /// The largest file, in bytes.
    pub max_size: u64,
    /// Lower-case extensions without the dot; empty allows all.
    pub allowed_extensions: Vec<String>,
    /// Lower-case media types; empty allows all.
    pub allowed_content_types: Vec<String>,
    /// The default lifetime of a URL.
    pub url_ttl: TimeDelta,
    /// The maximum lifetime of a URL.
    pub max_url_ttl: TimeDelta,
    /// How long after a URL's expiry its bytes are still expected, because S3 checks the signature
    /// only when a request starts.
    pub grace: TimeDelta,
    /// The longest time that a client needs for one PUT. A PUT that started just before its URL
    /// expired replaces the object when it ends.
    pub max_put_duration: TimeDelta,
    /// Whether URLs are write-once. `None` means only if a content type or a size is declared.
    pub write_once: Option<bool>,
    /// The size in bytes from which the strategy `auto` uses a multipart upload.
    pub multipart_threshold: u64,
    /// The size of a part, in bytes.
    pub part_size: u64,
    /// What happens to late bytes.
    pub late: Late,
    /// What happens to changed bytes.
    pub overwrite: Overwrite,
    /// How long a rejected object is kept, so that an operator can examine it.
    pub rejected_retention: TimeDelta,
    /// How long a replaced object is kept.
    pub replaced_retention: TimeDelta,
    /// How long a moved object is kept at its former location.
    pub move_retention: TimeDelta,
    /// How long a verified upload that is not attached is kept; `None` means for ever.
    pub unattached_retention: Option<TimeDelta>,
    /// The inspectors that must accept a file after it was verified, before it is served. The
    /// built-in inspector `media` is not in the list, because it is part of the verification.
    pub inspect: Vec<InspectorName>,
    /// The settings of the built-in inspector `media`, if the policy names it.
    pub media: Option<MediaInspection>,
    /// The largest object, in bytes, that is read to compute a checksum that the store does not
    /// keep.
    pub verify_max_read: u64,
    /// How the objects are stored.
    pub object: ObjectSettings,
}

/// How long a download URL is valid: long enough to follow the redirect, too short to share the
/// URL.
pub const DOWNLOAD_TTL: TimeDelta = TimeDelta::minutes(5);

/// The built-in inspector `media` under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaInspection {
    /// The policy's rules for media files.
    pub rules: MediaRules,
    /// The time limit of one file.
    pub timeout: Duration,
    /// The maximum size of a file, in bytes. Larger files are unscannable.
    pub max_size: u64,
    /// What happens if the time limit is exceeded. Never [`Fallback::Hold`].
    pub on_error: Fallback,
    /// What happens if a file is unscannable. Never [`Fallback::Hold`].
    pub on_unscannable: Fallback,
}

/// Error messages by field, as the API reports them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FieldErrors(pub BTreeMap<String, Vec<String>>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (field, sentences) in &self.0 {
            write!(f, "{between}{field}: {}", sentences.join("; "))?;
            between = "; ";
        }
        Ok(())
    }
}

impl FieldErrors {
    /// Adds a message about a field.
    pub fn add(&mut self, field: &str, sentence: impl Into<String>) {
        self.0.entry(field.to_owned()).or_default().push(sentence.into());
    }

    /// One message about one field.
    pub fn one(field: &str, sentence: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add(field, sentence);
        errors
    }

    /// `Ok` if there is no message.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Policy {
    /// How long after a URL's expiry its PUT can still replace the object.
    pub fn replacement_window(&self) -> TimeDelta {
        self.max_put_duration.max(self.grace)
    }

    /// The largest file of an upload, in bytes. Its upload token may allow less than the policy.
    pub fn max_size_of(&self, declared: &Declared) -> u64 {
        declared.max_size.map_or(self.max_size, |limit| limit.min(self.max_size))
    }

    /// The message for a file over the limit.
    pub fn too_large(&self, declared: &Declared) -> String {
        format!("File is larger than max_size={}", self.max_size_of(declared))
    }

    /// Checks declared values before an upload is created. Errors about the size are reported for
    /// `size_field`: `size` for a declaration, `file` for a file in the request.
    pub fn check_declared(&self, declared: &Declared, size_field: &str) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        if let Some(name) = &declared.filename {
            self.check_filename(name, &mut errors);
        }
        if let Some(content_type) = &declared.content_type {
            self.check_content_type(content_type, &mut errors);
        }
        match declared.size {
            Some(0) => errors.add(size_field, "File is empty"),
            Some(size) if size > self.max_size_of(declared) => {
                errors.add(size_field, self.too_large(declared));
            }
            _ => {}
        }
        errors.into_result()
    }

    fn check_filename(&self, name: &str, errors: &mut FieldErrors) {
        let mut say = |sentence: String| errors.add("filename", sentence);
        if name.is_empty() {
            return say("Must not be empty".to_owned());
        }
        if name.len() > MAX_FILENAME_LEN {
            return say(format!("Must be at most {MAX_FILENAME_LEN} bytes long"));
        }
        if name.contains(['/', '\\']) || name == "." || name == ".." {
            return say("Must be a name, not a path".to_owned());
        }
        if name.chars().any(char::is_control) {
            return say("Must not contain control characters".to_owned());
        }
        let extension =
            name.rsplit_once('.').map(|(_, ext)| ext.to_lowercase()).unwrap_or_default();
        if !self.allowed_extensions.is_empty() && !self.allowed_extensions.contains(&extension) {
            say(format!("Extension must be one of: {}", self.allowed_extensions.join(", ")));
        }
    }

    fn check_content_type(&self, content_type: &str, errors: &mut FieldErrors) {
        let printable = content_type.bytes().all(|b| (0x20..0x7f).contains(&b));
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let shaped =
            essence.split_once('/').is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty());
        if !printable || !shaped || content_type.len() > 255 {
            errors.add("content_type", "Must be a media type such as audio/mpeg");
        } else if !sniff::is_generic(essence) && !self.allows_type(&essence.to_ascii_lowercase()) {
            let allowed = self.allowed_content_types.join(", ");
            errors.add("content_type", format!("Must be one of: {allowed}"));
        }
    }

    pub(super) fn allows_type(&self, essence: &str) -> bool {
        let expected = sniff::canonical(essence);
        self.allowed_content_types.is_empty()
            || self
                .allowed_content_types
                .iter()
                .any(|allowed| sniff::canonical(allowed) == expected)
    }

    /// Whether the URL of an upload can be used only once. The client's request overrides the
    /// policy.
    pub fn writes_once(&self, requested: Option<bool>, declared: &Declared) -> bool {
        let described = declared.content_type.is_some() || declared.size.is_some();
        let by_policy = || match self.write_once {
            // Without declarations, a PUT without extra headers must work.
            Some(once) => once && !declared.is_empty(),
            None => described,
        };
        requested.unwrap_or_else(by_policy)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tracks() -> Policy {
        Policy {
            name: PolicyName::default(),
            store: "default".into(),
            prefix: Prefix::parse("tracks/").unwrap(),
            max_size: 1000,
            allowed_extensions: vec!["mp3".into()],
            allowed_content_types: vec!["audio/mpeg".into(), "audio/mp3".into()],
            url_ttl: TimeDelta::hours(1),
            max_url_ttl: TimeDelta::hours(24),
            grace: TimeDelta::minutes(15),
            max_put_duration: TimeDelta::hours(24),
            write_once: None,
            multipart_threshold: 64 << 20,
            part_size: 16 << 20,
            late: Late::Accept,
            overwrite: Overwrite::Reject,
            rejected_retention: TimeDelta::hours(24),
            replaced_retention: TimeDelta::hours(24),
            move_retention: TimeDelta::hours(24),
            unattached_retention: None,
            inspect: Vec::new(),
            media: None,
            verify_max_read: 64 << 20,
            object: ObjectSettings::default(),
        }
    }

    #[test]
    fn each_invalid_declaration_has_a_message_for_its_field() {
        let declared = Declared {
            filename: Some("../evil.exe".into()),
            content_type: Some("image/png".into()),
            size: Some(1001),
            checksum: None,
            max_size: None,
        };
        let errors = tracks().check_declared(&declared, "size").unwrap_err().0;
        assert_eq!(errors["filename"], ["Must be a name, not a path"]);
        assert_eq!(errors["content_type"], ["Must be one of: audio/mpeg, audio/mp3"]);
        assert_eq!(errors["size"], ["File is larger than max_size=1000"]);
        for bad in ["", "a\0.mp3", "a.png", "mp3", "a\\b.mp3", &"x".repeat(300)] {
            let declared = Declared { filename: Some(bad.into()), ..Declared::default() };
            assert!(tracks().check_declared(&declared, "size").is_err(), "{bad:?}");
        }
        let limited = Declared { size: Some(901), max_size: Some(900), ..Declared::default() };
        let errors = tracks().check_declared(&limited, "size").unwrap_err().0;
        assert_eq!(errors["size"], ["File is larger than max_size=900"], "of the upload's token");
        let good = Declared {
            filename: Some("Überhaupt.MP3".into()),
            content_type: Some("Audio/MPEG".into()),
            size: Some(1000),
            checksum: None,
            max_size: None,
        };
        assert_eq!(tracks().check_declared(&good, "size"), Ok(()));
    }

    #[test]
    fn a_generic_content_type_is_accepted() {
        for generic in
            ["application/octet-stream", "Binary/Octet-Stream", "application/octet-stream; x=y"]
        {
            let declared = Declared { content_type: Some(generic.into()), ..Declared::default() };
            assert_eq!(tracks().check_declared(&declared, "size"), Ok(()), "{generic}");
        }
    }
}
