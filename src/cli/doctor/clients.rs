//! The requests that other upload clients send from browsers to the bucket, for `doctor --client`.

use clap::ValueEnum;

use crate::storage::probe::BrowserClient;

/// A client whose requests to the bucket are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Client {
    /// `@uppy/aws-s3` 5 and 6.
    Uppy,
    /// `@rails/activestorage`.
    Activestorage,
    /// django-s3-file-field.
    S3ff,
    /// `FilePond`.
    Filepond,
    /// Dropzone and HTML forms.
    Form,
    /// tus.
    Tus,
}

impl Client {
    pub(super) fn requests(self) -> BrowserClient<'static> {
        let through_the_service = |check| BrowserClient { check, requests: &[], exposed: &[] };
        match self {
            // A form or a PUT, requests for parts, and with `signRequest` the requests that open,
            // list and complete a multipart upload.
            Self::Uppy => BrowserClient {
                check: "cors_uppy",
                requests: &[
                    ("PUT", &["content-type"]),
                    ("POST", &["content-type"]),
                    ("GET", &[]),
                    ("DELETE", &[]),
                ],
                exposed: &["etag"],
            },
            Self::Activestorage => BrowserClient {
                check: "cors_activestorage",
                requests: &[("PUT", &["content-md5", "content-type"])],
                exposed: &[],
            },
            Self::S3ff => BrowserClient {
                check: "cors_s3ff",
                requests: &[("PUT", &[]), ("POST", &["content-type"])],
                exposed: &["etag"],
            },
            Self::Filepond => through_the_service("cors_filepond"),
            Self::Form => through_the_service("cors_form"),
            Self::Tus => through_the_service("cors_tus"),
        }
    }
}
