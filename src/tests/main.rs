//! Integration tests: one binary, one folder a subject.

mod http;
