//! Texts of statements, each written once: sea-orm would take a good part of a short statement's time
//! to write it again.

use std::sync::OnceLock;

/// The texts of a statement, by how many rows it is about.
pub(in crate::db) struct Texts<const LENGTHS: usize>([OnceLock<String>; LENGTHS]);

impl<const LENGTHS: usize> Default for Texts<LENGTHS> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; LENGTHS])
    }
}

impl<const LENGTHS: usize> Texts<LENGTHS> {
    /// The text of the `nth` length, counted from 0.
    pub fn get(&self, nth: usize, write: impl FnOnce() -> String) -> &str {
        self.0[nth].get_or_init(write)
    }
}
