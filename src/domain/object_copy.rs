//! Copies of an upload's object in another location than the upload's. A move leaves the original
//! there after it moved the upload, and writes the new copy before it moves the upload. Each copy
//! has a row from before its first byte on, so that a run can find it and delete it.

use super::clock::Timestamp;
use super::ids::{PolicyName, UploadId};
use super::key::ObjectKey;
use super::location::LocationNumber;
use super::upload::{Status, Upload};

/// A copy of an upload's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectCopy {
    /// The upload.
    pub upload: UploadId,
    /// Its policy.
    pub policy: PolicyName,
    /// The location of the copy.
    pub location: LocationNumber,
    /// The key of the copy.
    pub key: ObjectKey,
    /// When it may be deleted.
    pub delete_after: Timestamp,
}

/// What a run does with a copy that is due for deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyAction {
    /// Delete it: the upload's row is gone, or its own object is deleted or due for deletion too.
    Delete,
    /// Delete it if the upload's own object exists.
    DeleteIfMoved,
    /// Delete only its row: the upload is at this location now, so this is its own object.
    Forget,
    /// Keep it for now: it may be the only good copy.
    Keep,
}

impl ObjectCopy {
    /// Decides about a copy that is due. `upload` is `None` if the upload's row no longer exists.
    pub fn decide(&self, upload: Option<&Upload>, now: Timestamp) -> CopyAction {
        let Some(upload) = upload else { return CopyAction::Delete };
        if upload.location == self.location && upload.key == self.key {
            return CopyAction::Forget;
        }
        match upload.status() {
            Status::Uploaded => CopyAction::DeleteIfMoved,
            status if status.is_final() => {
                if upload.deletion.done.is_some() || upload.deletion.is_due(now) {
                    CopyAction::Delete
                } else {
                    CopyAction::Keep
                }
            }
            _ => CopyAction::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transition::tests::{at, upload_in};

    #[test]
    fn a_copy_is_kept_while_it_may_be_the_only_good_one() {
        use CopyAction::{Delete, DeleteIfMoved, Forget, Keep};
        let copy_of = |upload: &Upload, location| ObjectCopy {
            upload: upload.id,
            policy: upload.policy.clone(),
            location: LocationNumber(location),
            key: upload.key.clone(),
            delete_after: at(0),
        };
        // In final states the deletion of the object is due at minute 10.
        let table = [
            (Status::Pending, Keep, Keep),
            (Status::Inspecting, Keep, Keep),
            (Status::Uploaded, DeleteIfMoved, DeleteIfMoved),
            (Status::Expired, Keep, Keep),
            (Status::Missing, Keep, Keep),
            (Status::Rejected, Keep, Delete),
            (Status::Cancelled, Keep, Delete),
            (Status::Removed, Keep, Delete),
        ];
        for (status, before, after) in table {
            let upload = upload_in(status);
            let copy = copy_of(&upload, 1);
            assert_eq!(copy.decide(Some(&upload), at(9)), before, "{status:?}");
            assert_eq!(copy.decide(Some(&upload), at(10)), after, "{status:?}");
            let own = copy_of(&upload, 0);
            assert_eq!(own.decide(Some(&upload), at(99)), Forget, "{status:?}");
        }
        assert_eq!(copy_of(&upload_in(Status::Removed), 1).decide(None, at(0)), Delete);
    }
}
