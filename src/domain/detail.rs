//! Short sentences for the database.

/// The longest sentence, in bytes. A sentence of a rule may name many media types.
pub const MAX_DETAIL: usize = 500;

/// Truncates a sentence to [`MAX_DETAIL`] bytes, without splitting a character.
pub fn cut(mut sentence: String) -> String {
    sentence.truncate(sentence.floor_char_boundary(MAX_DETAIL));
    sentence
}
