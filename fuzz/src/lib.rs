//! The pure parsers of the service, compiled without the rest of it.

pub mod domain;
