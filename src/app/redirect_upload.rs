//! Signs the URL of an upload for a client that is redirected to it. The client can keep a URL of
//! this service for any time. The URL of the store is signed only when the client sends the file.

use super::{App, AppError, Result};
use crate::domain::policy::FieldErrors;
use crate::domain::rules::size_mismatch;
use crate::domain::transition::TransitionError;
use crate::domain::upload::Strategy;
use crate::domain::{Principal, Status, UploadId};
use crate::storage::signer::SignedRequest;

impl App {
    /// Signs the PUT of a pending or expired upload now. A redirect can't add headers, so the
    /// client must have sent all headers that the signature covers. `is_sent` returns whether the
    /// client sent a header with this value. `length` is the length of the body, if the client
    /// declared it.
    ///
    /// # Errors
    /// If the upload's strategy is not put, if the upload accepts no file any more, if a header is
    /// missing, or if the length is not the declared one. Nothing is changed then.
    pub async fn redirect_upload(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        length: Option<u64>,
        is_sent: impl Fn(&str, &str) -> bool,
    ) -> Result<SignedRequest> {
        let by = by.into();
        let upload = self.upload(by, id).await?;
        if upload.strategy != Strategy::Put {
            let sentence = format!(
                "The upload's strategy is {}: only an upload of the strategy put is redirected",
                upload.strategy.name()
            );
            return Err(AppError::field("id", sentence));
        }
        if !matches!(upload.status(), Status::Pending | Status::Expired) {
            return Err(TransitionError::TakesNoFile(upload.status()).into());
        }
        let mut errors = FieldErrors::default();
        if let (Some(declared), Some(sent)) = (upload.declared.size, length)
            && declared != sent
        {
            errors.add("file", size_mismatch(declared, sent));
        }
        let (event, request) = self.sign_renewal(by, &upload, None).await?;
        let request = request.ok_or(TransitionError::TakesNoFile(upload.status()))?;
        for (name, value) in &request.headers {
            if !is_sent(name, value) {
                errors.add(name, format!("Must be `{value}`: the signed URL requires this header"));
            }
        }
        errors.into_result()?;
        self.apply(upload, &event).await?;
        Ok(request)
    }
}
