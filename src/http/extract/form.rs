//! The file in a form (`multipart/form-data`). The other parts of the form are read too, because
//! they can show that the form contains only a part of a file. They must be small.

use actix_multipart::{Field, Multipart, MultipartError as FormError};
use actix_web::error::PayloadError;
use actix_web::http::header::{self, ContentDisposition, DispositionType, HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::stream;
use futures_util::{Stream, StreamExt as _};

use super::partial::{MAX_VALUE_LEN, refuse_partial_field, refuse_partial_headers};
use crate::app::AppError;

/// The name of the part that holds the file.
pub(super) const FILE: &str = "file";

/// The longest name of a part, in characters, that an error repeats.
const MAX_NAME_LEN: usize = 60;

/// Which part of a form is the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePart {
    /// The part with the name `file`.
    NamedFile,
    /// The part with a filename, whatever its name is.
    WithFilename,
}

/// The file of a form.
pub(super) struct FormFile<B> {
    /// Its name.
    pub(super) filename: Option<String>,
    /// Its media type, as declared by the client.
    pub(super) content_type: Option<String>,
    /// Its bytes.
    pub(super) bytes: B,
}

/// A form that is being received.
pub(super) struct Form {
    parts: Multipart,
    part: FilePart,
    /// The maximum number of bytes of all parts that are not the file.
    limit: usize,
    /// How many bytes of `limit` are not used yet.
    allowance: usize,
    is_file_found: bool,
    /// The name of the first part that has a filename but is not the file.
    misnamed: Option<String>,
}

impl Form {
    /// The form in a body. The parts that are not the file can have `limit` bytes in total.
    pub(super) fn new(
        headers: &HeaderMap,
        body: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
        limit: usize,
        part: FilePart,
    ) -> Self {
        let parts = Multipart::new(&as_mixed(headers), body);
        Self { parts, part, limit, allowance: limit, is_file_found: false, misnamed: None }
    }

    /// Returns the file of the form. Its bytes are read later, as a stream. The stream ends with an
    /// error if a part after the file is refused.
    pub(super) async fn file(
        mut self,
    ) -> Result<FormFile<impl Stream<Item = Result<Bytes, AppError>>>, AppError> {
        let Some(part) = self.next_file().await? else {
            return Err(match &self.misnamed {
                Some(name) => misnamed(name),
                None if self.part == FilePart::WithFilename => {
                    AppError::field(FILE, "The form has no part with a filename")
                }
                None => AppError::field(FILE, "The form has no part named `file`"),
            });
        };
        self.is_file_found = true;
        let content_type = part.content_type().map(ToString::to_string);
        let filename = filename(&disposition(part.headers())?);
        let bytes = stream::try_unfold((self, Some(part)), |(mut form, part)| async move {
            if let Some(mut part) = part
                && let Some(chunk) = part.next().await
            {
                return Ok(Some((chunk.map_err(|error| form_error(&error))?, (form, Some(part)))));
            }
            // The form is read to its end, so that a truncated form is an error.
            match form.next_file().await? {
                None => Ok(None),
                Some(_) => Err(AppError::field(FILE, "The form has more than one file")),
            }
        });
        Ok(FormFile { filename, content_type, bytes })
    }

    /// Returns the next part that contains a file. Parts before it are checked and skipped.
    async fn next_file(&mut self) -> Result<Option<Field>, AppError> {
        while let Some(part) = self.parts.next().await {
            let part = part.map_err(|error| form_error(&error))?;
            let disposition = disposition(part.headers())?;
            let name = disposition.get_name().unwrap_or_default();
            let has_filename =
                disposition.get_filename().is_some() || disposition.get_filename_ext().is_some();
            let is_file = match self.part {
                FilePart::NamedFile => name == FILE,
                FilePart::WithFilename => has_filename,
            };
            if is_file {
                refuse_partial_headers(part.headers())?;
                return Ok(Some(part));
            }
            if has_filename && self.misnamed.is_none() {
                self.misnamed = Some(name.chars().take(MAX_NAME_LEN).collect());
            }
            let value = self.value(part).await?;
            refuse_partial_field(name, &value)?;
        }
        Ok(None)
    }

    /// Reads a part to its end. Returns the first [`MAX_VALUE_LEN`] bytes.
    async fn value(&mut self, mut part: Field) -> Result<Vec<u8>, AppError> {
        let mut value = Vec::new();
        while let Some(chunk) = part.next().await {
            let chunk = chunk.map_err(|error| form_error(&error))?;
            self.allowance =
                self.allowance.checked_sub(chunk.len()).ok_or_else(|| self.too_large())?;
            let left = MAX_VALUE_LEN - value.len();
            value.extend_from_slice(&chunk[..chunk.len().min(left)]);
        }
        Ok(value)
    }

    fn too_large(&self) -> AppError {
        match &self.misnamed {
            Some(name) if !self.is_file_found => misnamed(name),
            _ => {
                let what = match self.part {
                    FilePart::NamedFile => "must be named `file`",
                    FilePart::WithFilename => "must have a filename",
                };
                let limit = self.limit;
                AppError::Body(format!(
                    "The other parts of the form have more than {limit} bytes together; the part \
                     with the file {what}"
                ))
            }
        }
    }
}

/// The name of the file. `filename*` is used before `filename`; browsers send only `filename`
/// (RFC 7578, section 4.2).
fn filename(disposition: &ContentDisposition) -> Option<String> {
    let encoded = disposition
        .get_filename_ext()
        .and_then(|name| std::str::from_utf8(&name.value).map(str::to_owned).ok());
    encoded
        .or_else(|| disposition.get_filename().map(str::to_owned))
        .filter(|name| !name.is_empty())
}

fn misnamed(name: &str) -> AppError {
    let name = name.escape_debug();
    AppError::field(FILE, format!("The part with the file must be named `file`, not `{name}`"))
}

/// The `Content-Disposition` of a part. It is an error if it is missing or has no name.
fn disposition(headers: &HeaderMap) -> Result<ContentDisposition, AppError> {
    let value = headers.get(header::CONTENT_DISPOSITION);
    let disposition = value.and_then(|value| {
        // Some clients send filenames in Latin-1, which `from_raw` refuses.
        ContentDisposition::from_raw(value)
            .or_else(|_| ContentDisposition::from_raw(&latin1_to_utf8(value)))
            .ok()
    });
    disposition
        .filter(|found| found.disposition == DispositionType::FormData)
        .filter(|found| found.get_name().is_some())
        .ok_or_else(|| {
            let example = "Content-Disposition: form-data; name=\"file\"; filename=\"song.mp3\"";
            AppError::Body(format!("A part of the form has no valid header such as `{example}`"))
        })
}

fn latin1_to_utf8(value: &HeaderValue) -> HeaderValue {
    let text: String = value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

/// The headers that the parser needs, with the media type `multipart/mixed`. If the media type is a
/// form, the parser reads `Content-Disposition` itself and accepts only UTF-8. Here [`disposition`]
/// reads it instead.
fn as_mixed(headers: &HeaderMap) -> HeaderMap {
    let mut mixed = HeaderMap::new();
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let parameters =
        value.and_then(|value| value.split_once(';')).map_or("", |(_, remaining)| remaining);
    if let Ok(value) = HeaderValue::from_str(&format!("multipart/mixed;{parameters}")) {
        mixed.insert(header::CONTENT_TYPE, value);
    }
    mixed
}

fn form_error(error: &FormError) -> AppError {
    AppError::Body(format!("The form cannot be read: {error}"))
}
