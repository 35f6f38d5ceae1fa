//! Parts of uploads: planned, signed, and stored.

use serde::Serialize;
use utoipa::ToSchema;

use super::RequestView;
use crate::app::multipart::SignedPart;
use crate::domain::PartPlan;
use crate::storage::Part;

/// How a file is split into parts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Multipart)]
pub struct MultipartView {
    /// The size of every part except the last, in bytes.
    #[schema(example = 16_777_216)]
    pub part_size: u64,
    /// The number of parts. Part numbers start at 1.
    #[schema(example = 13)]
    pub part_count: u16,
}

impl From<PartPlan> for MultipartView {
    fn from(plan: PartPlan) -> Self {
        Self { part_size: plan.part_size(), part_count: plan.part_count() }
    }
}

/// Signed requests for parts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedParts)]
pub struct SignedPartsView {
    /// The signed requests, in the order of the part numbers in the request.
    pub parts: Vec<SignedPartView>,
}

impl From<Vec<SignedPart>> for SignedPartsView {
    fn from(parts: Vec<SignedPart>) -> Self {
        Self { parts: parts.into_iter().map(Into::into).collect() }
    }
}

/// A signed request for one part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedPart)]
pub struct SignedPartView {
    /// The part number.
    #[schema(example = 1)]
    pub part_number: u16,
    /// The request to send.
    #[serde(flatten)]
    pub request: RequestView,
}

impl From<SignedPart> for SignedPartView {
    fn from(part: SignedPart) -> Self {
        let SignedPart { number, request } = part;
        Self { part_number: number, request: request.into() }
    }
}

/// The parts of a multipart upload that the store has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeldParts)]
pub struct HeldPartsView {
    /// The parts, in ascending order of their numbers.
    pub parts: Vec<HeldPartView>,
}

impl From<Vec<Part>> for HeldPartsView {
    fn from(parts: Vec<Part>) -> Self {
        Self { parts: parts.into_iter().map(Into::into).collect() }
    }
}

/// One part that the store has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeldPart)]
pub struct HeldPartView {
    /// The part number.
    #[schema(example = 1)]
    pub part_number: u16,
    /// The size in bytes.
    #[schema(example = 16_777_216)]
    pub size: u64,
    /// The ETag without quotes.
    pub etag: String,
}

impl From<Part> for HeldPartView {
    fn from(part: Part) -> Self {
        let Part { number, etag, size, last_modified: _, checksum: _ } = part;
        Self { part_number: number, size, etag }
    }
}
