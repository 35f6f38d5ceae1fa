//! Features of browser forms (`POST` with `multipart/form-data`) that `s3s` does not have: limits
//! before the signature is checked, `${filename}` in the key, and errors about fields that would be
//! ignored.
//!
//! `s3s` checks a form's signature, if there is one, before it reads the form's file into memory. It
//! refuses a form without a signature only after that. So an unsigned form could fill the memory.
//! To prevent this, [`FormConfig`] sets the limit of the file's size to zero until the known access
//! key was found in the form. `s3s` reads this limit just before it reads the file.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use s3s::config::{S3Config, S3ConfigProvider};
use s3s::{S3ErrorCode, S3Result, StdError};

use crate::body::SharedBody;
use crate::error::refuse;

/// `s3s` holds the file of a form in memory, so forms have a separate limit.
const MAX_FORM_FILE: u64 = 512 * 1024 * 1024;

/// The limit of everything before the file: the fields, and at most one chunk of the file.
const MAX_FORM_FIELDS: usize = 1024 * 1024;

/// The number of bytes of a form in which its fields and the header of its file are looked for:
/// the fields, and what `s3s` does not count among them (delimiters and headers of fields).
const MAX_FORM_BEGIN: usize = 2 * MAX_FORM_FIELDS;

/// The maximum age of a form's signature. A form is valid until its policy expires, but `s3s` also
/// refuses it if it is older than the clock skew that is allowed for other requests. This value
/// replaces that limit. S3 limits every signature to seven days.
const FORM_MAX_AGE_SECONDS: u32 = 7 * 24 * 60 * 60;

/// The placeholder in a key for the name of the form's file.
const FILE_NAME: &str = "${filename}";

tokio::task_local! {
    static FORM: Form;
}

/// The form that the current task handles.
struct Form {
    /// Whether the form has the known access key. A wrong signature ends the request before the
    /// file is read.
    signed: Cell<bool>,
    begin: Arc<FormBegin>,
    /// The key of the stored object.
    key: RefCell<Option<String>>,
}

/// The result of handling a form.
pub(crate) struct Handled {
    pub(crate) signed: bool,
    /// The key of the object, if it was stored.
    pub(crate) key: Option<String>,
}

/// The configuration of `s3s` for forms.
pub(crate) struct FormConfig {
    signed: Arc<S3Config>,
    unsigned: Arc<S3Config>,
}

impl FormConfig {
    pub(crate) fn new() -> Self {
        let config = |max_file| {
            let mut config = S3Config::default();
            config.presigned_url_max_skew_time_secs = FORM_MAX_AGE_SECONDS;
            config.form_max_fields_size = MAX_FORM_FIELDS;
            config.post_object_max_file_size = max_file;
            Arc::new(config)
        };
        Self { signed: config(MAX_FORM_FILE), unsigned: config(0) }
    }
}

impl S3ConfigProvider for FormConfig {
    fn snapshot(&self) -> Arc<S3Config> {
        Arc::clone(if is_signed() { &self.signed } else { &self.unsigned })
    }
}

/// Runs the handling of one form, whose body is a [`FormBody`] with this beginning.
pub(crate) async fn scope<T>(
    begin: Arc<FormBegin>,
    handling: impl Future<Output = T>,
) -> (T, Handled) {
    let form = Form { signed: Cell::new(false), begin, key: RefCell::default() };
    FORM.scope(form, async {
        let result = handling.await;
        let key = FORM.with(|form| form.key.take());
        (result, Handled { signed: is_signed(), key })
    })
    .await
}

/// Records that the access key of this task's form is known.
pub(crate) fn key_is_known() {
    let _ = FORM.try_with(|form| form.signed.set(true));
}

fn is_signed() -> bool {
    FORM.try_with(|form| form.signed.get()).unwrap_or(false)
}

/// Replaces the placeholder in the key of this task's form by the file name. Refuses fields that
/// would have no effect.
pub(crate) fn resolve_key(key: &str) -> S3Result<String> {
    FORM.try_with(|form| {
        let FormHead { file_name, unsupported } = form.begin.parse();
        if let Some(field) = unsupported {
            let message =
                format!("A form field implies functionality that is not implemented: {field}.");
            return Err(refuse(S3ErrorCode::NotImplemented, message));
        }
        Ok(key.replace(FILE_NAME, &file_name))
    })
    .unwrap_or_else(|_| Ok(key.to_owned()))
}

/// Records the key of the object that this task's form stored.
pub(crate) fn stored(key: &str) {
    let _ = FORM.try_with(|form| form.key.replace(Some(key.to_owned())));
}

/// Values that are parsed from a form here. `s3s` also parses the form, but does not return them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FormHead {
    /// The name of the file, without the folders that a client may send.
    file_name: String,
    /// The first field that this server would have to ignore.
    unsupported: Option<&'static str>,
}

impl FormHead {
    /// Reads the fields before the file; `None` if the header of the file is not complete yet.
    fn parse(form: &[u8], boundary: &str) -> Option<Self> {
        let delimiter = format!("--{boundary}");
        let mut head = Self::default();
        for part in split(form, delimiter.as_bytes()) {
            let Some(end) = find(part, b"\r\n\r\n") else { continue };
            let header = String::from_utf8_lossy(&part[..end]);
            let Some(name) = parameter(&header, "name") else { continue };
            if name.eq_ignore_ascii_case("file") {
                let path = parameter(&header, "filename").unwrap_or_default();
                let file_name = path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
                return Some(Self { file_name, ..head });
            }
            let value = String::from_utf8_lossy(&part[end + 4..]);
            let value = value.trim_end_matches("\r\n");
            // S3's names of these fields differ from the names of the headers.
            let unsupported = match name.to_ascii_lowercase().as_str() {
                "acl" if value != "private" => Some("acl"),
                "tagging" => Some("tagging"),
                _ => None,
            };
            head.unsupported = head.unsupported.or(unsupported);
        }
        None
    }
}

/// A parameter of the `Content-Disposition` in the header of a part.
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let line = header.lines().find(|line| {
        line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("content-disposition:"))
    })?;
    let value = line.split(';').find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })?;
    Some(value.trim_matches('"'))
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

fn split<'a>(mut bytes: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    std::iter::from_fn(move || {
        let start = find(bytes, delimiter)? + delimiter.len();
        bytes = &bytes[start..];
        let end = find(bytes, delimiter).unwrap_or(bytes.len());
        Some(&bytes[..end])
    })
}

/// The beginning of a form: its fields and the header of its file.
#[derive(Debug)]
pub(crate) struct FormBegin {
    /// `None` if the content type has no boundary.
    boundary: Option<String>,
    bytes: Mutex<Vec<u8>>,
}

impl FormBegin {
    pub(crate) fn new(content_type: &str) -> Self {
        let boundary = content_type.split(';').find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"').to_owned())
        });
        Self { boundary, bytes: Mutex::default() }
    }

    fn extend(&self, data: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = MAX_FORM_BEGIN - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(missing)]);
    }

    /// Called once, when `s3s` has read the form. To parse after each frame would cost a client of
    /// tiny frames nothing, and this server much time.
    fn parse(&self) -> FormHead {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let boundary = self.boundary.as_ref();
        boundary.and_then(|boundary| FormHead::parse(&bytes, boundary)).unwrap_or_default()
    }
}

/// The body of a form. It stores the form's beginning while `s3s` reads the body.
pub(crate) struct FormBody {
    body: SharedBody,
    begin: Arc<FormBegin>,
}

impl FormBody {
    pub(crate) fn new(body: SharedBody, begin: Arc<FormBegin>) -> Self {
        Self { body, begin }
    }
}

impl Body for FormBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.begin.extend(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, more: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{value}\r\n")
    }

    #[test]
    fn the_name_of_the_file_and_fields_without_effect_are_read() {
        let file = |name: &str| part("file", &format!("; filename=\"{name}\""), "--b bytes");
        for (form, file_name, unsupported) in [
            (part("key", "", "a") + &file("a b.mp3"), "a b.mp3", None),
            (file("C:\\music\\a.mp3"), "a.mp3", None),
            (file("../../a.mp3"), "a.mp3", None),
            (part("acl", "", "private") + &file("a"), "a", None),
            (part("ACL", "", "public-read") + &file("a"), "a", Some("acl")),
            (part("tagging", "", "<Tagging/>") + &file("a"), "a", Some("tagging")),
            (part("file", "", "bytes"), "", None),
        ] {
            let expected = FormHead { file_name: file_name.to_owned(), unsupported };
            assert_eq!(FormHead::parse(form.as_bytes(), "b"), Some(expected), "{form}");
        }
        let whole = part("key", "", "a") + &file("a.mp3");
        let header_ends = whole.find("--b bytes").unwrap();
        for cut in 0..header_ends {
            assert_eq!(FormHead::parse(&whole.as_bytes()[..cut], "b"), None, "{cut}");
        }
    }
}
