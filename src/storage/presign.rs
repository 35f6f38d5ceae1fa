//! Stub
/// Stub.
pub struct Presigner;
