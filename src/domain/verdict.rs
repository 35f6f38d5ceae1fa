//! The verdict on bytes that arrived.

use std::str::FromStr;

use super::checksum::Checksum;
use super::envelope::is_form_envelope;
use super::policy::Policy;
use super::sniff;
use super::upload::Declared;

/// Why an object was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The bytes are a form around a file, not the file.
    MultipartEnvelope,
    /// Zero bytes.
    Empty,
    /// More bytes than the policy allows.
    TooLarge,
    /// Not as many bytes as declared.
    SizeMismatch,
    /// Not the declared checksum.
    ChecksumMismatch,
    /// No allowed type by the first bytes.
    ContentMismatch,
    /// Landed after expiry, under `late = "reject"`.
    Late,
    /// Verified bytes were replaced by others.
    Overwritten,
}

impl RejectReason {
    const ALL: [Self; 8] = [
        Self::MultipartEnvelope,
        Self::Empty,
        Self::TooLarge,
        Self::SizeMismatch,
        Self::ChecksumMismatch,
        Self::ContentMismatch,
        Self::Late,
        Self::Overwritten,
    ];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipartEnvelope => "multipart-envelope",
            Self::Empty => "empty",
            Self::TooLarge => "too-large",
            Self::SizeMismatch => "size-mismatch",
            Self::ChecksumMismatch => "checksum-mismatch",
            Self::ContentMismatch => "content-mismatch",
            Self::Late => "late",
            Self::Overwritten => "overwritten",
        }
    }
}

impl FromStr for RejectReason {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.name() == name).ok_or(())
    }
}

/// What is known of bytes that arrived.
#[derive(Debug, Clone)]
pub struct ReceivedObject<'a> {
    /// The object's size in bytes.
    pub size: u64,
    /// The Content-Type that the object was stored with.
    pub content_type: Option<&'a str>,
    /// Its first bytes, up to [`sniff::SNIFF_LEN`].
    pub head: &'a [u8],
    /// Its checksum in the declared algorithm, when one was declared.
    pub checksum: Option<&'a Checksum>,
}

impl Policy {
    /// Judges bytes that arrived, in the order of the design: envelope, size, checksum,
    /// type. The first broken rule is the reason.
    pub fn judge(
        &self,
        declared: &Declared,
        arrival: &ReceivedObject<'_>,
    ) -> Result<(), RejectReason> {
        if is_form_envelope(arrival.head) {
            return Err(RejectReason::MultipartEnvelope);
        }
        if arrival.size == 0 {
            return Err(RejectReason::Empty);
        }
        if arrival.size > self.max_size {
            return Err(RejectReason::TooLarge);
        }
        if declared.size.is_some_and(|size| size != arrival.size) {
            return Err(RejectReason::SizeMismatch);
        }
        if declared.checksum.is_some() && declared.checksum.as_ref() != arrival.checksum {
            return Err(RejectReason::ChecksumMismatch);
        }
        self.judge_type(arrival)
    }

    fn judge_type(&self, arrival: &ReceivedObject<'_>) -> Result<(), RejectReason> {
        let stated = sniff::informative(arrival.content_type);
        if stated.is_some_and(|stated| !self.allows_type(&stated)) {
            return Err(RejectReason::ContentMismatch);
        }
        let fits = match sniff::media_type(arrival.head) {
            Some(seen) => self.allows_type(seen),
            // No magic number: fine only where the policy allows a type that has none.
            None => {
                self.allowed_content_types.is_empty()
                    || self.allowed_content_types.iter().any(|allowed| !sniff::has_magic(allowed))
            }
        };
        if fits { Ok(()) } else { Err(RejectReason::ContentMismatch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::checksum::Algorithm;
    use crate::domain::policy::tests::tracks;

    fn arrival(head: &[u8]) -> ReceivedObject<'_> {
        ReceivedObject { size: head.len() as u64, content_type: None, head, checksum: None }
    }

    #[test]
    fn the_first_broken_rule_of_the_design_is_the_reason() {
        let policy = tracks();
        let form = b"--b\r\nContent-Disposition: form-data; name=f\r\n\r\nID3";
        let mp3 = b"ID3\x04\0\0\0\0\0\0";
        let sum = |bytes: &[u8]| Checksum::of(Algorithm::Md5, bytes);
        let free = Declared::default();
        let sized = Declared { size: Some(5), ..Declared::default() };
        let summed = Declared { checksum: Some(sum(b"other")), ..Declared::default() };
        let seen = sum(mp3);
        let cases = [
            (
                &free,
                ReceivedObject { size: 5000, ..arrival(form) },
                Err(RejectReason::MultipartEnvelope),
            ),
            (&free, arrival(b""), Err(RejectReason::Empty)),
            (
                &sized,
                ReceivedObject { size: 1001, ..arrival(b"\x89PNG") },
                Err(RejectReason::TooLarge),
            ),
            (&sized, arrival(mp3), Err(RejectReason::SizeMismatch)),
            (
                &summed,
                ReceivedObject { checksum: Some(&seen), ..arrival(mp3) },
                Err(RejectReason::ChecksumMismatch),
            ),
            (&summed, arrival(mp3), Err(RejectReason::ChecksumMismatch)),
            (&free, arrival(b"\x89PNG\r\n\x1a\n"), Err(RejectReason::ContentMismatch)),
            (&free, arrival(b"hello"), Err(RejectReason::ContentMismatch)),
            (
                &free,
                ReceivedObject { content_type: Some("text/html"), ..arrival(mp3) },
                Err(RejectReason::ContentMismatch),
            ),
            (
                &free,
                ReceivedObject {
                    content_type: Some("multipart/form-data; boundary=b"),
                    ..arrival(mp3)
                },
                Ok(()),
            ),
            (
                &free,
                ReceivedObject { size: 1000, content_type: Some("audio/mp3"), ..arrival(mp3) },
                Ok(()),
            ),
        ];
        for (declared, arrival, verdict) in cases {
            assert_eq!(policy.judge(declared, &arrival), verdict, "{arrival:?}");
        }
    }

    #[test]
    fn a_type_without_magic_may_have_any_unknown_bytes_but_no_known_others() {
        let policy = Policy { allowed_content_types: vec!["text/csv".into()], ..tracks() };
        assert_eq!(policy.judge(&Declared::default(), &arrival(b"a,b\n1,2\n")), Ok(()));
        let png = arrival(b"\x89PNG\r\n\x1a\n");
        assert_eq!(policy.judge(&Declared::default(), &png), Err(RejectReason::ContentMismatch));
    }
}
