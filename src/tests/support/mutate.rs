//! Valid input with random changes. Every parser of input from clients and stores is tested with
//! it, and with random bytes.
//!
//! The unit tests use this module too, as `crate::mutate`.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Texts that have a special meaning for at least one parser.
const TOKENS: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"--",
    b"\"",
    b"'",
    b"\\",
    b"\0",
    b"%",
    b"+",
    b"=",
    b":",
    b",",
    b"/",
    b"_",
    b"\xff",
    b"9999999999999999999999",
];

/// One change of some bytes.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Repeat(Index, usize),
    Swap(Index, Index),
    Truncate(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let new = prop_oneof![vec(any::<u8>(), 1..6), select(&TOKENS[..]).prop_map(<[u8]>::to_vec)];
    prop_oneof![
        3 => (at(), 0..8_u32).prop_map(|(at, bit)| Edit::Flip(at, 1 << bit)),
        3 => (at(), new).prop_map(|(at, new)| Edit::Insert(at, new)),
        2 => (at(), 1..16_usize).prop_map(|(at, len)| Edit::Delete(at, len)),
        1 => (at(), 1..64_usize).prop_map(|(at, len)| Edit::Repeat(at, len)),
        1 => (at(), at()).prop_map(|(a, b)| Edit::Swap(a, b)),
        1 => at().prop_map(Edit::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    // One position after the last byte, where bytes can be inserted too.
    let end = bytes.len() + 1;
    match edit {
        Edit::Insert(at, new) => {
            let at = at.index(end);
            bytes.splice(at..at, new.iter().copied());
        }
        _ if bytes.is_empty() => {}
        Edit::Flip(at, bit) => *at.get_mut(bytes) ^= bit,
        Edit::Delete(at, len) => {
            let at = at.index(bytes.len());
            bytes.drain(at..(at + len).min(bytes.len()));
        }
        Edit::Repeat(at, len) => {
            let at = at.index(bytes.len());
            let again = bytes[at..(at + len).min(bytes.len())].to_vec();
            bytes.splice(at..at, again);
        }
        Edit::Swap(a, b) => {
            let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
            bytes.swap(a, b);
        }
        Edit::Truncate(at) => bytes.truncate(at.index(end)),
    }
}

/// Valid bytes, and the bytes after one to four changes.
pub fn changed<V>(valid: impl Strategy<Value = V>) -> impl Strategy<Value = (V, Vec<u8>)>
where
    V: AsRef<[u8]> + std::fmt::Debug,
{
    let pair = (valid, vec(edit(), 1..=4)).prop_map(|(valid, edits)| {
        let mut bytes = valid.as_ref().to_vec();
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        (valid, bytes)
    });
    pair.prop_filter("the changes undid each other", |(valid, bytes)| valid.as_ref() != bytes)
}

/// Only the changed bytes.
pub fn mutated<V>(valid: impl Strategy<Value = V>) -> impl Strategy<Value = Vec<u8>>
where
    V: AsRef<[u8]> + std::fmt::Debug,
{
    changed(valid).prop_map(|(_, bytes)| bytes)
}

/// Like [`mutated`], as a text.
pub fn mutated_text<V>(valid: impl Strategy<Value = V>) -> impl Strategy<Value = String>
where
    V: AsRef<[u8]> + std::fmt::Debug,
{
    mutated(valid).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
