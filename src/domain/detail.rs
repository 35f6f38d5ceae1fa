//! Sentences that are stored with an upload, for example why it was rejected.

/// The longest stored sentence, in bytes. The sentence of a rule may list many media types.
pub const MAX_DETAIL: usize = 500;

/// Truncates a sentence to [`MAX_DETAIL`] bytes, without splitting a character.
pub fn cut(mut sentence: String) -> String {
    sentence.truncate(sentence.floor_char_boundary(MAX_DETAIL));
    sentence
}
