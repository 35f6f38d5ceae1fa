//! The rules for received bytes, in the order in which they are checked.
//!
//! To add a rule, add an entry to [`RULES`] with its [`RejectReason`] and a function that returns
//! the message, and a row to the table test.

use super::checksum::Checksum;
use super::envelope::is_form_envelope;
use super::policy::Policy;
use super::reject_reason::RejectReason;
use super::sniff;
use super::upload::Declared;

/// The facts about received bytes.
#[derive(Debug, Clone)]
pub struct ReceivedObject<'a> {
    /// The size in bytes.
    pub size: u64,
    /// The Content-Type stored with the object.
    pub content_type: Option<&'a str>,
    /// The Content-Encoding stored with the object.
    pub content_encoding: Option<&'a str>,
    /// The first bytes, up to [`sniff::SNIFF_LEN`].
    pub head: &'a [u8],
    /// The checksum in the declared algorithm. `None` if it is unknown.
    pub checksum: Option<&'a Checksum>,
}

/// Which rules to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Only the rules that need the metadata and the first bytes.
    WithoutChecksum,
    /// All rules. The checksum of the whole object is known.
    All,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Violation {
    /// The reason for the rejection.
    pub reason: RejectReason,
    /// What is wrong, as a sentence for the client.
    pub message: String,
}

impl From<RejectReason> for Violation {
    fn from(reason: RejectReason) -> Self {
        Self { reason, message: reason.explanation().to_owned() }
    }
}

/// Returns the message if the rule is broken.
type CheckRule = fn(&Policy, &Declared, &ReceivedObject<'_>) -> Option<String>;

struct Rule {
    reason: RejectReason,
    needs_checksum: bool,
    check: CheckRule,
}

impl Rule {
    const fn new(reason: RejectReason, check: CheckRule) -> Self {
        Self { reason, needs_checksum: false, check }
    }
}

/// Every rule. The first broken one is the reason for the rejection. A form body comes first,
/// because it breaks the other rules as well and only this reason explains why.
const RULES: &[Rule] = &[
    Rule::new(RejectReason::MultipartEnvelope, is_form),
    Rule::new(RejectReason::ContentEncoding, is_encoded),
    Rule::new(RejectReason::Empty, is_empty),
    Rule::new(RejectReason::TooLarge, is_too_large),
    Rule::new(RejectReason::SizeMismatch, differs_in_size),
    Rule { needs_checksum: true, ..Rule::new(RejectReason::ChecksumMismatch, differs_in_checksum) },
    Rule::new(RejectReason::ContentMismatch, has_other_type),
];

impl Policy {
    /// Checks received bytes against the rules, in their order.
    pub fn validate(
        &self,
        declared: &Declared,
        received: &ReceivedObject<'_>,
        pass: Pass,
    ) -> Result<(), Violation> {
        let rules = RULES.iter().filter(|rule| pass == Pass::All || !rule.needs_checksum);
        for rule in rules {
            if let Some(message) = (rule.check)(self, declared, received) {
                return Err(Violation { reason: rule.reason, message });
            }
        }
        Ok(())
    }

    /// The media type to record for received bytes: the stored type if it is allowed and
    /// fits the bytes, otherwise an allowed type that fits, otherwise the detected type.
    pub fn media_type(&self, received: &ReceivedObject<'_>) -> Option<String> {
        let stated = sniff::informative(received.content_type);
        let Some(found) = sniff::detect(received.head).filter(|found| !found.is_weak()) else {
            return stated;
        };
        let fitting = |media_type: &&String| found.fits(media_type);
        let known = stated.filter(|stated| found.fits(stated) && self.allows_type(stated));
        let known = known.or_else(|| self.allowed_content_types.iter().find(fitting).cloned());
        Some(
            known
                .map_or_else(|| found.best().to_owned(), |name| sniff::canonical(&name).to_owned()),
        )
    }
}

fn is_form(_: &Policy, _: &Declared, received: &ReceivedObject<'_>) -> Option<String> {
    let message = "File is a multipart/form-data body, not the file inside it; send the file itself \
                   as the request body";
    is_form_envelope(received.head).then(|| message.to_owned())
}

/// Whether the object has a content coding that clients would decode. `aws-chunked` is not one: it
/// describes only the transfer, but some stores keep it with the object.
fn is_encoded(_: &Policy, _: &Declared, received: &ReceivedObject<'_>) -> Option<String> {
    let mut codings = received.content_encoding?.split(',').map(str::trim);
    let coding = codings.find(|coding| {
        let harmless = ["", "identity", "aws-chunked", "none"];
        !harmless.iter().any(|harmless| coding.eq_ignore_ascii_case(harmless))
    })?;
    Some(format!(
        "File is stored with Content-Encoding \"{coding}\", so clients would decode it; send it \
         without Content-Encoding"
    ))
}

fn is_empty(_: &Policy, _: &Declared, received: &ReceivedObject<'_>) -> Option<String> {
    (received.size == 0).then(|| "File is empty".to_owned())
}

fn is_too_large(
    policy: &Policy,
    declared: &Declared,
    received: &ReceivedObject<'_>,
) -> Option<String> {
    (received.size > policy.max_size_of(declared)).then(|| policy.too_large(declared))
}

fn differs_in_size(
    _: &Policy,
    declared: &Declared,
    received: &ReceivedObject<'_>,
) -> Option<String> {
    let (expected, size) = (declared.size?, received.size);
    (expected != size).then(|| size_mismatch(expected, size))
}

/// The message for a file whose size differs from the declared size. Both in bytes.
pub fn size_mismatch(expected: u64, size: u64) -> String {
    format!("File has {size} bytes, but {expected} were declared; send the whole file again")
}

fn differs_in_checksum(
    _: &Policy,
    declared: &Declared,
    received: &ReceivedObject<'_>,
) -> Option<String> {
    let expected = declared.checksum.as_ref()?;
    (Some(expected) != received.checksum).then(|| {
        let algorithm = expected.algorithm();
        format!("File's {algorithm} differs from the declared one; send the declared file again")
    })
}

fn has_other_type(policy: &Policy, _: &Declared, received: &ReceivedObject<'_>) -> Option<String> {
    if policy.allowed_content_types.is_empty() {
        return None;
    }
    let mut allowed = policy.allowed_content_types.iter();
    let found = sniff::detect(received.head);
    let fits = |media_type: &str| found.as_ref().is_some_and(|found| found.fits(media_type));
    let by_content = allowed.clone().any(|media_type| fits(media_type));
    // Text and unknown formats are allowed if the policy allows a type without a magic number.
    let opaque = found.as_ref().is_none_or(sniff::Detected::is_weak)
        && allowed.any(|media_type| !sniff::has_magic(media_type));
    // A stored type must be allowed, or be another name for the content that was found.
    let stated = sniff::informative(received.content_type);
    let honest =
        stated.is_none_or(|stated| policy.allows_type(&stated) || by_content && fits(&stated));
    (!honest || !by_content && !opaque).then(|| {
        format!(
            "File's content has none of the allowed types: {}",
            policy.allowed_content_types.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::checksum::Algorithm;
    use crate::domain::policy::tests::tracks;

    const MP3: &[u8] = b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\x64";

    fn received(head: &[u8]) -> ReceivedObject<'_> {
        ReceivedObject {
            size: head.len() as u64,
            content_type: None,
            content_encoding: None,
            head,
            checksum: None,
        }
    }

    fn reason(declared: &Declared, received: &ReceivedObject<'_>) -> Option<RejectReason> {
        tracks().validate(declared, received, Pass::All).err().map(|broken| broken.reason)
    }

    #[test]
    fn the_first_broken_rule_is_the_reason() {
        use RejectReason as Reason;
        let form = b"--b\r\nContent-Disposition: form-data; name=f\r\n\r\nID3";
        let sum = |bytes: &[u8]| Checksum::of(Algorithm::Md5, bytes);
        let free = Declared::default();
        let sized = Declared { size: Some(5), ..Declared::default() };
        let summed = Declared { checksum: Some(sum(b"other")), ..Declared::default() };
        let found = sum(MP3);
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        let mp3 = || received(MP3);
        let gzip = Some("gzip");
        let cases = [
            (
                &free,
                ReceivedObject { size: 5000, ..received(form) },
                Some(Reason::MultipartEnvelope),
            ),
            (
                &free,
                ReceivedObject { content_encoding: gzip, ..received(b"") },
                Some(Reason::ContentEncoding),
            ),
            (&free, received(b""), Some(Reason::Empty)),
            (&sized, ReceivedObject { size: 1001, ..received(png) }, Some(Reason::TooLarge)),
            (&sized, mp3(), Some(Reason::SizeMismatch)),
            (
                &summed,
                ReceivedObject { checksum: Some(&found), ..mp3() },
                Some(Reason::ChecksumMismatch),
            ),
            (&summed, mp3(), Some(Reason::ChecksumMismatch)),
            (&free, received(png), Some(Reason::ContentMismatch)),
            (&free, received(b"hello"), Some(Reason::ContentMismatch)),
            (
                &free,
                ReceivedObject { content_type: Some("text/html"), ..mp3() },
                Some(Reason::ContentMismatch),
            ),
            (
                &free,
                ReceivedObject { content_type: Some("multipart/form-data; boundary=b"), ..mp3() },
                None,
            ),
            (&free, ReceivedObject { size: 1000, content_type: Some("audio/mp3"), ..mp3() }, None),
        ];
        for (declared, received, expected) in cases {
            assert_eq!(reason(declared, &received), expected, "{received:?}");
        }
    }

    #[test]
    fn only_codings_that_change_the_bytes_are_refused() {
        for (coding, refused) in [
            ("", false),
            ("identity", false),
            ("aws-chunked", false),
            ("None", false),
            ("aws-chunked, identity", false),
            ("gzip", true),
            ("GZIP", true),
            ("br", true),
            ("aws-chunked,gzip", true),
            ("utf-8", true),
        ] {
            let object = ReceivedObject { content_encoding: Some(coding), ..received(MP3) };
            let expected = refused.then_some(RejectReason::ContentEncoding);
            assert_eq!(reason(&Declared::default(), &object), expected, "{coding}");
        }
    }

    #[test]
    fn the_first_pass_ignores_the_checksum() {
        let declared =
            Declared { checksum: Some(Checksum::of(Algorithm::Md5, b"x")), ..Declared::default() };
        let validate = |pass| tracks().validate(&declared, &received(MP3), pass);
        assert_eq!(validate(Pass::WithoutChecksum), Ok(()));
        let broken = validate(Pass::All).unwrap_err();
        assert_eq!(broken.reason, RejectReason::ChecksumMismatch);
        assert!(broken.to_string().starts_with("File's md5 differs"), "{broken}");
    }

    #[test]
    fn a_policy_for_text_takes_any_text_but_no_known_binary_format() {
        let policy = Policy { allowed_content_types: vec!["text/csv".into()], ..tracks() };
        let validate =
            |head: &[u8]| policy.validate(&Declared::default(), &received(head), Pass::All).is_ok();
        for text in [&b"a,b\n1,2\n"[..], b"BM,1\n", b"MZ,2\n", b"#!,3\n", b"%!,4\n", b"OggS,5\n"] {
            assert!(validate(text), "{}", text.escape_ascii());
        }
        for other in [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], b"<!DOCTYPE html><p>", b"%PDF-1.7\n"] {
            assert!(!validate(other), "{}", other.escape_ascii());
        }
    }
}
