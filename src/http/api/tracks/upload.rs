//! `POST` and `PUT /api/tracks/{id}/upload/{filename}`

use actix_web::web::Data;
use actix_web::{HttpRequest, rt};
use percent_encoding::percent_decode_str;
use tracing::Instrument as _;

use crate::app::direct_upload::{DirectUpload, SentFile};
use crate::domain::{PolicyName, TrackId};
use crate::http::HttpState;
use crate::http::extract::file::FileForm;
use crate::http::extract::{
    Caller, DigestParams, Digests, DirectUploadPermit, FileBody, Id, Json, Query, text,
};
use crate::http::openapi::{BadFile, NotFound};
use crate::http::problem::{ApiError, Code};
use crate::http::views::TrackView;

/// Upload a track's file through this service
///
/// Use this if the client cannot reach the store. The body is the file itself, or a form with a
/// part `file`. POST and PUT accept both; this document shows the file as the body of PUT and the
/// form as the body of POST. The bytes are streamed to the store. The request must contain the
/// whole file: `Content-Range`, `Upload-Complete: ?0`, `Upload-Offset` and form fields that number
/// the chunks of a file are refused with 400.
#[utoipa::path(method(post, put), path = "/api/tracks/{id}/upload/{filename}",
    operation_id = "upload_track", tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track"),
        ("filename" = String, Path, description = "The name of the file, percent-encoded",
            example = "song.mp3"),
        DigestParams,
        ("policy" = Option<String>, Query, description = "The policy. The default is `tracks`")),
    request_body(description = "The file", content(
        (String = "application/octet-stream"), (FileForm = "multipart/form-data"))),
    responses((status = 200, description = "The track with its file", body = TrackView),
        BadFile, NotFound))]
pub async fn handle(
    (caller, permit): (Caller, DirectUploadPermit),
    Id(track): Id<TrackId>,
    mut query: Query,
    request: HttpRequest,
    Digests(digests): Digests,
    body: FileBody,
    state: Data<HttpState>,
) -> Result<Json<TrackView>, ApiError> {
    let policy = query.text("policy").map(PolicyName::new);
    query.finish()?;
    let filename = filename(request.uri().path())?;
    let FileBody { filename: _, content_type, length, bytes, timeout } = body;
    let sent = SentFile { content_type, length, digests };
    let upload = DirectUpload { track, policy, filename, sent };
    // In a separate task: if the client disconnects, this handler is dropped, but the upload must
    // still be ended.
    let app = state.app.clone();
    let work = async move {
        let _permit = permit;
        app.direct_upload(&caller.owner, upload, bytes).await
    };
    let stored = rt::spawn(work.in_current_span()).await;
    let stored = stored.map_err(|error| ApiError::new(Code::Internal).because(error))?;
    let stored = stored.map_err(|error| timeout.error(error))?;
    Ok(Json(TrackView::of(stored, &state.app)))
}

/// The filename at the end of the path. It is read from the raw path, because the router replaces
/// invalid UTF-8 in its parameters.
fn filename(path: &str) -> Result<String, ApiError> {
    let raw = path.split_once("/upload/").map(|(_, name)| name).unwrap_or_default();
    let name = percent_decode_str(raw).decode_utf8();
    let name = name.map_err(|_| ApiError::field("filename", "Must be UTF-8"))?.into_owned();
    text::refuse_control(&name).map_err(|sentence| ApiError::field("filename", sentence))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::filename;
    use crate::mutate::mutated_text;

    fn path(name: &str) -> String {
        format!("/api/tracks/x/upload/{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
    }

    proptest! {
        #[test]
        fn every_filename_survives_percent_encoding(name in "\\PC{0,60}") {
            prop_assert_eq!(filename(&path(&name)).ok(), Some(name));
        }

        #[test]
        fn a_mutated_path_has_a_plain_filename_or_none(
            path in prop_oneof![mutated_text("\\PC{0,20}".prop_map(|name| path(&name))), ".{0,60}"],
        ) {
            if let Ok(name) = filename(&path) {
                prop_assert!(!name.chars().any(char::is_control));
                prop_assert!(name.len() <= path.len());
            }
        }
    }

    #[test]
    fn a_filename_is_decoded_exactly() {
        let name = |raw: &str| filename(&format!("/api/tracks/x/upload/{raw}")).ok();
        assert_eq!(name("a%20b+c%25.mp3").as_deref(), Some("a b+c%.mp3"));
        assert_eq!(name("..%2Fa.mp3").as_deref(), Some("../a.mp3"), "refused by the policy");
        assert_eq!((name("a%00.mp3"), name("%ff.mp3")), (None, None));
    }
}
