//! The limits of browser forms (`POST` with `multipart/form-data`).
//!
//! `s3s` reads the file of a form into memory before it asks whether the form is signed. It
//! takes the limit of the file's size from the configuration at that moment, after it has
//! checked the signature if there is one. So the limit is zero until the signature was
//! checked: no byte of an unsigned form's file is kept.

use std::cell::Cell;
use std::sync::Arc;

use s3s::config::{S3Config, S3ConfigProvider};

/// `s3s` holds the file of a form in memory, so forms have a limit of their own.
const MAX_FORM_FILE: u64 = 512 * 1024 * 1024;

/// The limit of everything before the file: the fields, and at most one chunk of the file.
const MAX_FORM_FIELDS: usize = 1024 * 1024;

/// A form is valid until its policy expires. `s3s` bounds its age by the clock skew that it
/// allows for other requests. S3 lets no signature live longer than seven days.
const FORM_MAX_AGE_SECONDS: u32 = 7 * 24 * 60 * 60;

tokio::task_local! {
    /// Whether the form of this task names the known access key. A wrong signature ends the
    /// request before the file is read.
    static SIGNED: Cell<bool>;
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

/// Runs the handling of one form.
pub(crate) async fn scope<T>(handling: impl Future<Output = T>) -> (T, bool) {
    SIGNED
        .scope(Cell::new(false), async {
            let result = handling.await;
            (result, is_signed())
        })
        .await
}

/// Records that the access key of this task's form is known.
pub(crate) fn key_is_known() {
    let _ = SIGNED.try_with(|signed| signed.set(true));
}

fn is_signed() -> bool {
    SIGNED.try_with(Cell::get).unwrap_or(false)
}
