//! Subjects: the names under which files are attached to records.

use std::fmt;
use std::str::FromStr;

use super::ids::TrackId;

/// The largest length of a subject, in characters.
pub const MAX_SUBJECT_LEN: usize = 200;

/// The prefix of subjects of tracks.
const TRACK: &str = "track:";

/// The name under which one file of an owner's record is attached, for example `album:42:cover`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

/// Why a text is not a valid subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Too short or too long.
    #[error("Must be 1 to {MAX_SUBJECT_LEN} characters")]
    Length,
    /// A character that a subject may not contain.
    #[error("May contain only A-Z a-z 0-9 . _ ~ : @ -")]
    Character,
    /// `track:` is not followed by the id of a track.
    #[error("`{TRACK}` must be followed by the id of a track: lower case, with hyphens")]
    Track,
}

impl Subject {
    /// The subject of a track's file.
    pub fn of_track(track: TrackId) -> Self {
        Self(format!("{TRACK}{track}"))
    }

    /// The track, if this is the subject of a track.
    pub fn track(&self) -> Option<TrackId> {
        self.0.strip_prefix(TRACK)?.parse().ok()
    }

    /// A subject from a row.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a subject may contain this byte.
    pub fn allows(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"._~:@-".contains(&byte)
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if !text.bytes().all(Self::allows) {
            return Err(SubjectError::Character);
        }
        if text.is_empty() || text.len() > MAX_SUBJECT_LEN {
            return Err(SubjectError::Length);
        }
        let subject = Self(text.to_owned());
        // Only one spelling is valid: otherwise one track could have two subjects with two files.
        let is_track = |id: TrackId| Self::of_track(id) == subject;
        if text.starts_with(TRACK) && !subject.track().is_some_and(is_track) {
            return Err(SubjectError::Track);
        }
        Ok(subject)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The subject of an upload, and its number in the subject's sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The subject.
    pub subject: Subject,
    /// The number in the subject's sequence, from 1. A larger number is newer.
    pub sequence: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_subject_has_few_kinds_of_characters_and_a_bounded_length() {
        for good in ["a", "album:42:cover", "user@example.com", "A-Z.a_z~9", &"x".repeat(200)] {
            assert_eq!(good.parse::<Subject>().map(|subject| subject.to_string()), Ok(good.into()));
        }
        assert_eq!("".parse::<Subject>(), Err(SubjectError::Length));
        assert_eq!("x".repeat(201).parse::<Subject>(), Err(SubjectError::Length));
        for bad in ["a b", "a/b", "é", "a%2f", "a\n", "a?"] {
            assert_eq!(bad.parse::<Subject>(), Err(SubjectError::Character), "{bad}");
        }
    }

    #[test]
    fn a_track_has_one_subject() {
        let track = TrackId(Uuid::from_u128(7));
        let subject = Subject::of_track(track);
        assert_eq!(subject.to_string().parse(), Ok(subject.clone()));
        assert_eq!(subject.track(), Some(track));
        let upper = subject.to_string().replace("track:", "").to_uppercase();
        for bad in [
            "track:",
            "track:7",
            &format!("track:{upper}F"),
            &format!("track:{}", Uuid::nil().simple()),
        ] {
            assert_eq!(bad.parse::<Subject>(), Err(SubjectError::Track), "{bad}");
        }
        assert_eq!("tracks:7".parse::<Subject>().map(|subject| subject.track()), Ok(None));
    }

    proptest! {
        #[test]
        fn any_text_is_a_subject_or_refused(text in ".{0,210}") {
            if let Ok(subject) = text.parse::<Subject>() {
                prop_assert_eq!(subject.as_str(), text);
            }
        }
    }
}
