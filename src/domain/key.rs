//! Object keys and the shards that a listing is cut into.
//!
//! `{prefix}{shard}/{uuid}`: the uuid is lower case with hyphens, the shard is its last
//! hex digit. That digit is random, so writes spread over 16 prefixes while the keys inside
//! one still ascend with time.

use std::fmt;

use uuid::Uuid;

use super::ids::UploadId;

/// How many shards a prefix has.
pub const SHARD_COUNT: u8 = 16;

/// The name, below a policy's prefix, of the object that says whose bucket this is.
pub const MARKER_NAME: &str = ".instance";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The longest prefix: S3 keys have at most 1,024 bytes, of which `{shard}/{uuid}` takes 38.
const MAX_PREFIX_LEN: usize = 512;

/// Why a text can't be a prefix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PrefixError {
    /// Keys of different policies would run into each other.
    #[error("a prefix must end with `/`")]
    NoSlash,
    /// Characters that some store or URL library rewrites.
    #[error(
        "a prefix may hold only A-Z a-z 0-9 - _ . and single slashes, and not start with `/` or hold `.` or `..` as a segment"
    )]
    Character,
    /// Longer than [`MAX_PREFIX_LEN`].
    #[error("a prefix may have at most {MAX_PREFIX_LEN} bytes")]
    TooLong,
}

/// What stands before the shard in every key of a policy, for example `tracks/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// Checks and takes a prefix.
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

    /// Whether the keys of the two prefixes could mix.
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
        let rest = key.strip_prefix(&self.0)?;
        let (_, uuid) = rest.split_once('/')?;
        let id: UploadId = uuid.parse().ok()?;
        // One spelling only: upper case, braces or a wrong shard would give two keys to one id.
        (self.key(id).0 == key).then_some(id)
    }

    /// The key of the marker object.
    pub fn marker(&self) -> String {
        format!("{}{MARKER_NAME}", self.0)
    }

    /// All that is below this prefix, as one range.
    pub fn whole(&self) -> KeyRange {
        KeyRange { prefix: self.0.clone(), after: None, until: None }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of an upload's object. The whole key is kept on the row, so that a later
/// change of configuration renames nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// A key as a row has it.
    pub fn stored(key: impl Into<String>) -> Self {
        Self(key.into())
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

    /// The shard that an upload's key is in.
    pub fn of(id: UploadId) -> Self {
        Self(id.0.as_bytes()[15] & 0x0f)
    }

    /// The digit that names it: the last one of its keys, too.
    pub fn digit(self) -> char {
        char::from(HEX[usize::from(self.0)])
    }

    /// The keys of this shard. The ranges of all shards tile the prefix without gap or
    /// overlap: the first begins where the prefix begins, the last ends where it ends.
    pub fn range(self, prefix: &Prefix) -> KeyRange {
        let next = Self(self.0 + 1);
        KeyRange {
            prefix: prefix.0.clone(),
            after: (self.0 > 0).then(|| self.edge(&prefix.0)),
            until: (next.0 < SHARD_COUNT).then(|| next.edge(&prefix.0)),
        }
    }

    /// What all its keys begin with, but for the slash.
    fn edge(self, prefix: &str) -> String {
        format!("{prefix}{}", self.digit())
    }
}

/// Keys that begin with `prefix`, are greater than `after` and at most `until`, compared
/// byte by byte. The lower end is exclusive because S3's `start-after` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// What every key of the range begins with.
    pub prefix: String,
    /// Only keys greater than this.
    pub after: Option<String>,
    /// Only keys up to and including this.
    pub until: Option<String>,
}

impl KeyRange {
    /// Whether the range holds this key.
    pub fn contains(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
            && self.after.as_deref().is_none_or(|after| key > after)
            && self.until.as_deref().is_none_or(|until| key <= until)
    }

    /// The shards that have keys in the range, and maybe one more at each end. Beyond the prefix,
    /// where rows of a former one may lie, keys of all shards are.
    pub fn shards(&self) -> impl Iterator<Item = Shard> {
        let ours = |edge: &Option<String>| {
            edge.as_ref().is_some_and(|edge| edge.starts_with(&self.prefix))
        };
        let beyond = !(ours(&self.after) && ours(&self.until));
        Shard::all().filter(move |shard| {
            if beyond {
                return true;
            }
            let edge = shard.edge(&self.prefix);
            // No key of a shard is greater than its edge with a `0` behind it: `/` sorts before.
            let last = format!("{edge}0");
            self.after.as_deref().is_none_or(|after| after < last.as_str())
                && self.until.as_deref().is_none_or(|until| until > edge.as_str())
        })
    }

    /// The keys that another range has, too; `None` where that is none.
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

    /// The same range from behind `key` on.
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
    fn only_the_one_spelling_of_a_key_parses() {
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
        fn a_key_gives_back_its_upload(bytes: [u8; 16]) {
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
        fn what_ranges_have_in_common_is_what_is_in_both(
            key: u128, edges in prop::array::uniform4(prop::option::of(any::<u128>())),
            near in prop::option::of(0..4_usize),
        ) {
            let of = |id: u128| prefix().key(UploadId(Uuid::from_u128(id))).to_string();
            let key = of(near.and_then(|near| edges[near]).unwrap_or(key));
            let [a, b, c, d] = edges.map(|edge| edge.map(of));
            let one = KeyRange { after: a, until: b, ..prefix().whole() };
            let other = KeyRange { after: c, until: d, ..prefix().whole() };
            let common = one.common(&other).is_some_and(|common| common.contains(&key));
            prop_assert_eq!(common, one.contains(&key) && other.contains(&key));
        }

        #[test]
        fn parsing_any_text_neither_panics_nor_invents(text in "\\PC{0,80}") {
            if let Some(id) = prefix().parse_key(&text) {
                prop_assert_eq!(prefix().key(id), ObjectKey(text));
            }
        }

        #[test]
        fn a_spoiled_key_is_foreign_or_the_one_spelling_of_another_upload(
            text in mutated_text(any::<u128>().prop_map(|id| {
                prefix().key(UploadId(Uuid::from_u128(id))).to_string()
            })),
        ) {
            if let Some(id) = prefix().parse_key(&text) {
                prop_assert_eq!(prefix().key(id), ObjectKey(text));
            }
        }

        #[test]
        fn what_is_taken_as_a_prefix_is_short_and_plain(
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
