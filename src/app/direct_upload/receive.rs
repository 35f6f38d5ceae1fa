//! Direct upload of a file for which no upload exists: creates one.

use bytes::Bytes;
use futures_util::Stream;

use super::SentFile;
use crate::app::create_upload::NewUpload;
use crate::app::{App, Result};
use crate::domain::upload::Strategy;
use crate::domain::{Principal, Upload};

impl App {
    /// Creates an upload and stores its file from a stream of its bytes. If the file is refused,
    /// the upload is cancelled.
    ///
    /// # Errors
    /// The errors of [`Self::create_upload`] and [`Self::upload_content`].
    pub async fn receive_file<B>(
        &self,
        by: Principal<'_>,
        new: NewUpload,
        sent: SentFile,
        body: B,
    ) -> Result<Upload>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let new = NewUpload { strategy: Some(Strategy::Direct), ..new };
        let id = self.create_upload(by, new).await?.upload.id;
        let stored = self.upload_content(by, id, sent, body).await;
        if stored.is_err()
            && let Err(error) = self.delete_upload(by, id).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an upload whose file was refused was not cancelled; it will expire"
            );
        }
        stored
    }
}
