//! The caller of a use case.

use super::ids::Owner;
use super::upload::Upload;
use super::upload_token::UploadToken;

/// The caller of a use case of uploads: an owner, who may use all its uploads, or an upload token
/// of an owner, which may use only the uploads that it created.
#[derive(Debug, Clone, Copy)]
pub struct Principal<'a> {
    owner: &'a Owner,
    token: Option<&'a UploadToken>,
}

impl<'a> Principal<'a> {
    /// The owner of everything that is created.
    pub fn owner(self) -> &'a Owner {
        self.owner
    }

    /// The upload token, if the caller has one.
    pub fn token(self) -> Option<&'a UploadToken> {
        self.token
    }

    /// Whether the caller may use an upload of its owner.
    pub fn reaches(self, upload: &Upload) -> bool {
        self.token.is_none_or(|token| upload.token == Some(token.id))
    }
}

impl<'a> From<&'a Owner> for Principal<'a> {
    fn from(owner: &'a Owner) -> Self {
        Self { owner, token: None }
    }
}

impl<'a> From<&'a UploadToken> for Principal<'a> {
    fn from(token: &'a UploadToken) -> Self {
        Self { owner: &token.owner, token: Some(token) }
    }
}
