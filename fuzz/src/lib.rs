//! The parsers of the service that the fuzz targets call, compiled without the service itself.

pub mod domain;
