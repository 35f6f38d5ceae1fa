//! The modules of `src/domain` that read files.

#![allow(dead_code, unused_imports, reason = "the service uses the rest")]

#[path = "../../src/domain/media/mod.rs"]
pub mod media;
#[path = "../../src/domain/sniff/mod.rs"]
pub mod sniff;
