//! Object keys, and the shards into which a listing is divided.
//!
//! A key is `{prefix}{shard}/{uuid}`. The UUID is written in lower case with hyphens, and the shard
//! is its last hex digit. This digit is random, so writes are spread over 16 shards. Inside a
//! shard, the keys ascend with time.

use std::fmt;

use uuid::Uuid;

use super::ids::UploadId;

/// The number of shards of a prefix.
pub const SHARD_COUNT: u8 = 16;

/// The name of the marker object, below a policy's prefix. The marker says which database the
/// bucket belongs to.
pub const MARKER_NAME: &str = ".instance";

/// The folder, below a policy's prefix, for tails: objects with received bytes that are too few for
/// a part (see [`super::tus`]).
const TAILS: &str = ".tails";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The longest prefix: S3 keys have at most 1,024 bytes, of which `{shard}/{uuid}` takes 38.
const MAX_PREFIX_LEN: usize = 512;

/// Why a text is not a valid prefix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PrefixError {
    /// Without the final slash, keys of different policies could be equal.
    #[error("a prefix must end with `/`")]
    NoSlash,
    /// A character or a segment that some store or URL library changes.
    #[error(
        "a prefix may contain only A-Z a-z 0-9 - _ . and single slashes; it must not start with \
        `/` or have a segment `.` or `..`"
    )]
    Character,
    /// Longer than [`MAX_PREFIX_LEN`].
    #[error("a prefix may have at most {MAX_PREFIX_LEN} bytes")]
    TooLong,
}

/// The text before the shard in every key of a policy, for example `tracks/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// Validates a prefix.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        if text.len() > MAX_PREFIX_LEN {
            return Err(PrefixError::TooLong);
        }
        let Some(body) = text.strip_suffix('/') else { return Err(PrefixError::NoSlash) };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let good = |segment: &str| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(allowed)
        };
        if body.split('/').all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PrefixError::Character)
        }
    }

    /// The text, with its final slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether one prefix begins with the other, so that their keys could mix.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// The key of an upload's object.
    pub fn key(&self, id: UploadId) -> ObjectKey {
        let mut buffer = Uuid::encode_buffer();
        let uuid = id.0.as_hyphenated().encode_lower(&mut buffer);
        let mut key = String::with_capacity(self.0.len() + 2 + uuid.len());
        key.push_str(&self.0);
        key.push(Shard::of(id).digit());
        key.push('/');
        key.push_str(uuid);
        ObjectKey(key)
    }

    /// The upload that a key belongs to; `None` for a foreign key.
    pub fn parse_key(&self, key: &str) -> Option<UploadId> {
        let without_prefix = key.strip_prefix(&self.0)?;
        let (_, uuid) = without_prefix.split_once('/')?;
        let id: UploadId = uuid.parse().ok()?;
        // Only one spelling is valid: with upper case, braces or a wrong shard, one id would have
        // two keys.
        (self.key(id).0 == key).then_some(id)
    }

    /// The upload whose tail has this key; `None` if it is not the key of a tail.
    pub fn parse_tail(&self, key: &str) -> Option<UploadId> {
        let id_and_writer = key.strip_prefix(&self.0)?.strip_prefix(TAILS)?.strip_prefix('/')?;
        let (id, writer) = id_and_writer.split_once('/')?;
        let (id, writer): (UploadId, i64) = (id.parse().ok()?, writer.parse().ok()?);
        // As in `parse_key`, only one spelling is valid.
        (self.key(id).tail(writer)? == key).then_some(id)
    }

    /// The key of the marker object.
    pub fn marker(&self) -> String {
        format!("{}{MARKER_NAME}", self.0)
    }

    /// All keys below this prefix, as one range.
    pub fn whole(&self) -> KeyRange {
        KeyRange { prefix: self.0.clone(), after: None, until: None }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of an upload's object. The row contains the whole key, so a later change of the
/// configured prefix does not affect it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// A key from a row.
    pub fn stored(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The prefix of the key. `None` if the key is not one of this service.
    pub fn prefix(&self) -> Option<Prefix> {
        let (parent, _) = self.0.rsplit_once('/')?;
        let (prefix, _) = parent.rsplit_once('/')?;
        let prefix = Prefix::parse(&format!("{prefix}/")).ok()?;
        prefix.parse_key(&self.0).map(|_| prefix)
    }

    /// The prefix of the keys of the upload's tails. `None` if the key is not one of this service.
    pub fn tails(&self) -> Option<String> {
        let (parent, id) = self.0.rsplit_once('/')?;
        let (prefix, _) = parent.rsplit_once('/')?;
        Some(format!("{prefix}/{TAILS}/{id}/"))
    }

    /// The key of the tail that the writer with this number saved.
    pub fn tail(&self, writer: i64) -> Option<String> {
        Some(format!("{}{writer}", self.tails()?))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the [`SHARD_COUNT`] parts of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// All shards, in key order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..SHARD_COUNT).map(Self)
    }

    /// The shard that contains an upload's key.
    pub fn of(id: UploadId) -> Self {
        Self(id.0.as_bytes()[15] & 0x0f)
    }

    /// The digit that is the shard's name, and the last digit of its keys.
    pub fn digit(self) -> char {
        char::from(HEX[usize::from(self.0)])
    }

    /// The keys of this shard. The ranges of all shards cover the prefix without gaps or overlaps:
    /// the first has no lower bound, and the last has no upper bound.
    pub fn range(self, prefix: &Prefix) -> KeyRange {
        let next = Self(self.0 + 1);
        KeyRange {
            prefix: prefix.0.clone(),
            after: (self.0 > 0).then(|| self.key_prefix(&prefix.0)),
            until: (next.0 < SHARD_COUNT).then(|| next.key_prefix(&prefix.0)),
        }
    }

    /// The text that all its keys begin with, without the slash.
    fn key_prefix(self, prefix: &str) -> String {
        format!("{prefix}{}", self.digit())
    }
}

/// The keys that begin with `prefix`, are greater than `after` and at most `until`, compared byte
/// by byte. `after` is excluded, because S3's `start-after` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The text that every key of the range begins with.
    pub prefix: String,
    /// Only keys greater than this.
    pub after: Option<String>,
    /// Only keys up to and including this.
    pub until: Option<String>,
}

impl KeyRange {
    /// Whether the range contains this key.
    pub fn contains(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
            && self.after.as_deref().is_none_or(|after| key > after)
            && self.until.as_deref().is_none_or(|until| key <= until)
    }

    /// The shards that have keys in the range, and possibly one more at each end. Returns all
    /// shards if a bound is missing or does not begin with the prefix, because queries for the rows
    /// of such a range also return keys outside the prefix.
    pub fn shards(&self) -> impl Iterator<Item = Shard> {
        let ours = |bound: &Option<String>| {
            bound.as_ref().is_some_and(|bound| bound.starts_with(&self.prefix))
        };
        let beyond = !(ours(&self.after) && ours(&self.until));
        Shard::all().filter(move |shard| {
            if beyond {
                return true;
            }
            let start = shard.key_prefix(&self.prefix);
            // The shard's last possible key is less than its start with a `0` appended, because `/`
            // sorts before `0`.
            let last = format!("{start}0");
            self.after.as_deref().is_none_or(|after| after < last.as_str())
                && self.until.as_deref().is_none_or(|until| until > start.as_str())
        })
    }

    /// The keys that are in both ranges; `None` if there are none.
    pub fn common(&self, other: &Self) -> Option<Self> {
        let after = Ord::max(&self.after, &other.after).clone();
        let until = match (&self.until, &other.until) {
            (Some(one), Some(other)) => Some(Ord::min(one, other)),
            (one, other) => one.as_ref().or(other.as_ref()),
        };
        let until = until.cloned();
        let empty = until.is_some() && until <= after;
        (!empty).then(|| Self { prefix: self.prefix.clone(), after, until })
    }

    /// The same range, starting after `key`.
    #[must_use]
    pub fn resumed_after(&self, key: &str) -> Self {
        Self { after: Some(key.to_owned()), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::mutate::mutated_text;

    fn prefix() -> Prefix {
        Prefix::parse("tracks/").unwrap()
    }

    #[test]
    fn a_prefix_that_could_mix_with_others_is_refused() {
        for (bad, error) in [
            ("tracks", PrefixError::NoSlash),
            ("", PrefixError::NoSlash),
            ("/", PrefixError::Character),
            ("/a/", PrefixError::Character),
            ("a//b/", PrefixError::Character),
            ("a/../b/", PrefixError::Character),
            ("a b/", PrefixError::Character),
            ("ä/", PrefixError::Character),
        ] {
            assert_eq!(Prefix::parse(bad), Err(error), "{bad:?}");
        }
        let (a, ab) = (Prefix::parse("a/").unwrap(), Prefix::parse("a/b/").unwrap());
        assert!(a.overlaps(&ab) && ab.overlaps(&a) && !a.overlaps(&prefix()));
    }

    #[test]
    fn only_one_spelling_of_a_key_parses() {
        let id: UploadId = "0190a6f2-7b3c-7def-8123-456789abcdef".parse().unwrap();
        let key = prefix().key(id);
        assert_eq!(key.as_str(), "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef");
        for foreign in [
            "tracks/e/0190a6f2-7b3c-7def-8123-456789abcdef",
            "tracks/f/0190A6F2-7B3C-7DEF-8123-456789ABCDEF",
            "tracks/f/0190a6f27b3c7def8123456789abcdef",
            "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef/x",
            "other/f/0190a6f2-7b3c-7def-8123-456789abcdef",
            "tracks/.instance",
            "tracks/",
        ] {
            assert_eq!(prefix().parse_key(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn the_upload_is_parsed_from_its_key(bytes: [u8; 16]) {
            let id = UploadId(Uuid::from_bytes(bytes));
            let key = prefix().key(id);
            prop_assert_eq!(prefix().parse_key(key.as_str()), Some(id));
            let shard = Shard::of(id);
            let range = shard.range(&prefix());
            prop_assert!(range.contains(key.as_str()));
            let at_an_end = range.after.is_none() || range.until.is_none();
            let expected = if at_an_end { Shard::all().collect() } else { vec![shard] };
            prop_assert_eq!(range.shards().collect::<Vec<_>>(), expected);
            prop_assert!(key.as_str().ends_with(shard.digit()));
        }

        #[test]
        fn a_range_leaves_out_no_shard_that_has_keys_in_it(
            key: u128, after in prop::option::of(any::<u128>()), until in prop::option::of(any::<u128>()),
        ) {
            let of = |id: u128| prefix().key(UploadId(Uuid::from_u128(id))).to_string();
            let range = KeyRange { after: after.map(of), until: until.map(of), ..prefix().whole() };
            if range.contains(&of(key)) {
                let shard = Shard::of(UploadId(Uuid::from_u128(key)));
                prop_assert!(range.shards().any(|one| one == shard));
            }
        }

        #[test]
        fn the_intersection_of_two_ranges_has_the_keys_of_both(
            key: u128, bounds in prop::array::uniform4(prop::option::of(any::<u128>())),
            near in prop::option::of(0..4_usize),
        ) {
            let of = |id: u128| prefix().key(UploadId(Uuid::from_u128(id))).to_string();
            let key = of(near.and_then(|near| bounds[near]).unwrap_or(key));
            let [a, b, c, d] = bounds.map(|bound| bound.map(of));
            let one = KeyRange { after: a, until: b, ..prefix().whole() };
            let other = KeyRange { after: c, until: d, ..prefix().whole() };
            let common = one.common(&other).is_some_and(|common| common.contains(&key));
            prop_assert_eq!(common, one.contains(&key) && other.contains(&key));
        }

        #[test]
        fn the_upload_is_parsed_from_the_key_of_its_tail(id: u128, writer in 0..i64::MAX) {
            let id = UploadId(Uuid::from_u128(id));
            let tail = prefix().key(id).tail(writer).unwrap();
            prop_assert_eq!(prefix().parse_tail(&tail), Some(id));
            prop_assert_eq!(prefix().parse_key(&tail), None);
            prop_assert!(prefix().whole().contains(&tail));
            for other in [tail.to_uppercase(), format!("{tail}/x"), tail.replace(".tails", ".tail")] {
                prop_assert_eq!(prefix().parse_tail(&other), None);
            }
        }

        #[test]
        fn text_that_parses_as_a_key_has_its_only_spelling(text in "\\PC{0,80}") {
            if let Some(id) = prefix().parse_key(&text) {
                prop_assert_eq!(prefix().key(id), ObjectKey(text));
            }
        }

        #[test]
        fn a_mutated_key_is_foreign_or_the_only_spelling_of_another_upload(
            text in mutated_text(any::<u128>().prop_map(|id| {
                prefix().key(UploadId(Uuid::from_u128(id))).to_string()
            })),
        ) {
            if let Some(id) = prefix().parse_key(&text) {
                prop_assert_eq!(prefix().key(id), ObjectKey(text));
            }
        }

        #[test]
        fn an_accepted_prefix_is_short_and_plain(
            text in prop_oneof![mutated_text(Just("tracks/live/")), "\\PC{0,20}/", "[a./]{0,8}/"],
        ) {
            if let Ok(prefix) = Prefix::parse(&text) {
                prop_assert_eq!(prefix.as_str(), &text);
                prop_assert!(text.len() <= MAX_PREFIX_LEN && text.ends_with('/'));
                let body = &text[..text.len() - 1];
                prop_assert!(body.split('/').all(|part| !matches!(part, "" | "." | "..")));
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
                prop_assert!(text.bytes().all(plain));
            }
        }

        #[test]
        fn every_key_below_the_prefix_is_in_exactly_one_shard(tail in "[ -~é0-9a-f]{0,6}") {
            let key = format!("tracks/{tail}");
            let owners = Shard::all().filter(|s| s.range(&prefix()).contains(&key)).count();
            prop_assert_eq!(owners, 1);
            prop_assert!(prefix().whole().contains(&key));
        }
    }
}
