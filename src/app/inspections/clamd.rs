//! The virus scanner `ClamAV`: the object is streamed from the store to its daemon.

use async_trait::async_trait;

use super::{ExamineError, Examiner, File, Opinion, clean};
use crate::app::App;
use crate::domain::inspection::{Annotation, Verdict};
use crate::net::clamd::{Clamd, Scan, ScanError};
use crate::telemetry::chain;

/// Examines files with a daemon of `ClamAV`.
#[derive(Debug)]
pub struct ClamdExaminer(pub Clamd);

#[async_trait]
impl Examiner for ClamdExaminer {
    async fn examine(&self, app: &App, file: File<'_>) -> Result<Opinion, ExamineError> {
        let unconfigured = |error| ExamineError::Failed(chain(&error));
        let (_, store) = app.rules_of(file.upload).await.map_err(unconfigured)?;
        let key = file.upload.key.as_str();
        let bytes = store.objects.read_all(key, &file.facts.etag).await?;
        match self.0.scan(bytes).await {
            Ok(Scan::Clean) => Ok(Opinion::Verdict(Verdict::Accept, Annotation::new())),
            Ok(Scan::Found(signature)) => {
                let signature = clean(signature);
                let found = ("signature".to_owned(), signature.clone().into());
                Ok(Opinion::Verdict(Verdict::Reject(signature), Annotation::from_iter([found])))
            }
            Ok(Scan::NotScanned(why)) => Ok(Opinion::Unscannable(clean(why))),
            Err(ScanError::File(error)) => Err(error.into()),
            Err(ScanError::Clamd(error)) => Err(ExamineError::Failed(chain(&error))),
        }
    }
}
