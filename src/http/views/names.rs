//! The fixed values of members and parameters, such as the names of statuses. The OpenAPI document
//! takes them from the type that defines them, so that a new value is always documented.

use crate::domain::attachment::EMPTY;
use crate::domain::media::Kind;
use crate::domain::run::{FindingKind, Mode, RunStatus, Trigger};
use crate::domain::upload::{ConfirmedBy, RemoveReason, Strategy};
use crate::domain::webhook::DeliveryStatus;
use crate::domain::{Algorithm, RejectReason, Status};

/// Declares types that document text with a fixed list of values: the type's documentation, its
/// name in the OpenAPI document, and an iterator over the values.
macro_rules! named_values {
    ($($(#[doc = $doc:literal])+ $type:ident as $name:literal: $values:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub struct $type;

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(concat!($($doc),+).trim()))
                    .enum_values(Some($values))
                    .into()
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
        }
    )+};
}
pub(in crate::http) use named_values;

/// The verdicts that can be sent.
pub const VERDICTS: [&str; 2] = ["accept", "reject"];

/// The strategy name that lets the service choose.
pub const AUTO: &str = "auto";

named_values! {
    /// The status of an upload.
    StatusName as "Status": Status::ALL.map(Status::name);
    /// The status of a track's newest upload, or `empty`.
    TrackStatusName as "TrackStatus": [EMPTY].into_iter().chain(Status::ALL.map(Status::name));
    /// How a file is uploaded.
    StrategyName as "Strategy": Strategy::ALL.map(Strategy::name);
    /// How to upload a file. With `auto`, the service chooses.
    StrategyOption as "StrategyOption": [AUTO].into_iter().chain(Strategy::CHOICES.map(Strategy::name));
    /// How the service learned of an object.
    ConfirmedByName as "ConfirmedBy": ConfirmedBy::ALL.map(ConfirmedBy::name);
    /// Why an upload was rejected or removed.
    ReasonName as "Reason": RejectReason::ALL.map(RejectReason::name).into_iter()
        .chain(RemoveReason::ALL.map(RemoveReason::name));
    /// The verdict of an inspector.
    VerdictName as "Verdict": VERDICTS;
    /// The algorithm of a checksum.
    AlgorithmName as "Algorithm": Algorithm::ALL.map(Algorithm::name);
    /// The scope of a run: `incremental` checks open uploads, `audit` checks everything.
    RunMode as "RunMode": Mode::RECONCILIATIONS.map(Mode::name);
    /// What started a run.
    RunTrigger as "RunTrigger": Trigger::ALL.iter().copied().map(Trigger::name);
    /// The status of a run.
    RunStatusName as "RunStatus": RunStatus::ALL.iter().copied().map(RunStatus::name);
    /// The kind of problem that a finding reports.
    FindingKindName as "FindingKind": FindingKind::ALL.iter().copied().map(FindingKind::name);
    /// The kind of a media file.
    MediaKindName as "MediaKind": Kind::ALL.map(Kind::name);
    /// The status of a webhook delivery.
    DeliveryStatusName as "DeliveryStatus": DeliveryStatus::ALL.map(DeliveryStatus::name);
}
