//! Upload tokens: `upt_<id>_<secret>`, see [`bearer_token`](super::bearer_token). With a token, a
//! browser or an app without an account can create some uploads for the token's owner.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::bearer_token::{PresentedToken, SecretHash};
use super::clock::Timestamp;
use super::ids::{Owner, PolicyName, UploadTokenId};
use super::subject::Subject;

/// The prefix of every token, so that scanners for leaked secrets can find it.
pub const PREFIX: &str = "upt_";

/// The lifetime if none is requested.
pub const DEFAULT_LIFETIME: TimeDelta = TimeDelta::hours(1);

/// The longest lifetime.
pub const MAX_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The largest number of origins of one token.
pub const MAX_ORIGINS: usize = 20;

/// A stored token.
#[derive(Debug, Clone)]
pub struct UploadToken {
    /// Its id, which is part of its text.
    pub id: UploadTokenId,
    /// Its secret's hash.
    pub hash: SecretHash,
    /// The owner of the uploads that it creates.
    pub owner: Owner,
    /// The policy of these uploads.
    pub policy: PolicyName,
    /// How many uploads it may create; `None` means no limit.
    pub max_uploads: Option<u64>,
    /// How many it has created, including cancelled ones.
    pub uploads: u64,
    /// The largest file in bytes, if that is less than the policy's limit.
    pub max_size: Option<u64>,
    /// The subject that its uploads are attached to.
    pub attach_to: Option<Subject>,
    /// Metadata that is added to each of its uploads.
    pub metadata: BTreeMap<String, String>,
    /// Origins whose web pages may use it as a path prefix, in addition to the configured origins.
    pub cors_origins: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// From this time on it creates no uploads.
    pub expires_at: Timestamp,
    /// From this time on it is refused: the deadlines of all its uploads have passed.
    pub ends_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Why an upload token is not accepted, or does not allow a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no such token, or it is revoked, or the deadlines of all its uploads have passed.
    /// All cases have the same message, so that it does not reveal which tokens exist.
    #[error("The upload token is unknown, revoked or expired")]
    Unknown,
    /// It can create no more uploads, and no new URLs for the uploads that it created.
    #[error(
        "The upload token has expired; uploads that it already created can continue until \
        their deadline"
    )]
    Expired,
    /// It has created as many uploads as it may.
    #[error("The upload token allows at most {0} uploads, including cancelled ones")]
    Exhausted(u64),
    /// The request names another policy than the token's.
    #[error("The upload token is for the policy `{0}`")]
    OtherPolicy(PolicyName),
    /// The request names another subject than the token's.
    #[error("The upload token attaches only to `{0}`; omit attach_to and track_id")]
    OtherSubject(Subject),
    /// The request names a subject, but the token has none.
    #[error("The upload token does not allow attach_to or track_id")]
    NoSubject,
}

impl UploadToken {
    /// Whether a presented token is this one and is accepted at this time.
    pub fn accepts(&self, presented: &PresentedToken, now: Timestamp) -> bool {
        self.is(presented) && self.revoked_at.is_none() && now < self.ends_at
    }

    /// Whether a presented token is this one, even if it is not accepted.
    pub fn is(&self, presented: &PresentedToken) -> bool {
        self.id.0 == presented.id && self.hash.matches(&presented.hash)
    }

    /// Whether it has expired and creates no more uploads.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// Whether web pages of this origin may use it.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.cors_origins.iter().any(|allowed| allowed == "*" || allowed == origin)
    }

    /// Its policy. Fails if the request names another one.
    pub fn check_policy(&self, requested: Option<&PolicyName>) -> Result<PolicyName, TokenError> {
        match requested {
            Some(other) if *other != self.policy => {
                Err(TokenError::OtherPolicy(self.policy.clone()))
            }
            _ => Ok(self.policy.clone()),
        }
    }

    /// Its subject. Fails if the request names another one. A token without a subject does not
    /// allow a subject in the request: otherwise a page could replace the file of any record of the
    /// owner.
    pub fn check_subject(
        &self,
        requested: Option<&Subject>,
    ) -> Result<Option<Subject>, TokenError> {
        match (requested, &self.attach_to) {
            (Some(_), None) => Err(TokenError::NoSubject),
            (Some(other), Some(own)) if other != own => Err(TokenError::OtherSubject(own.clone())),
            (_, own) => Ok(own.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use uuid::Uuid;

    use super::*;
    use crate::domain::bearer_token::{SECRET_LEN, write};

    fn token(secret: &[u8; SECRET_LEN]) -> (UploadToken, PresentedToken) {
        let id = Uuid::from_u128(7);
        let (text, hash) = write(PREFIX, id, secret);
        let now = Timestamp::UNIX_EPOCH;
        let token = UploadToken {
            id: UploadTokenId(id),
            hash,
            owner: Owner::anonymous(),
            policy: PolicyName::new("images"),
            max_uploads: None,
            uploads: 0,
            max_size: None,
            attach_to: None,
            metadata: BTreeMap::new(),
            cors_origins: vec!["https://app.example.com".to_owned()],
            created_at: now,
            expires_at: now + TimeDelta::hours(1),
            ends_at: now + TimeDelta::hours(2),
            revoked_at: None,
        };
        (token, PresentedToken::parse(PREFIX, text.expose_secret()).unwrap())
    }

    #[test]
    fn an_expired_token_is_accepted_until_its_uploads_have_ended() {
        let (token, presented) = token(&[1; SECRET_LEN]);
        let at = |minutes| Timestamp::UNIX_EPOCH + TimeDelta::minutes(minutes);
        for (minutes, accepted, expired) in
            [(0, true, false), (59, true, false), (60, true, true), (119, true, true)]
        {
            let found = (token.accepts(&presented, at(minutes)), token.has_expired(at(minutes)));
            assert_eq!(found, (accepted, expired), "{minutes}");
        }
        assert!(!token.accepts(&presented, at(120)));
        let revoked = UploadToken { revoked_at: Some(at(0)), ..token.clone() };
        assert!(!revoked.accepts(&presented, at(0)) && revoked.is(&presented));
        let other = self::token(&[2; SECRET_LEN]).1;
        assert!(!token.accepts(&other, at(0)) && !token.is(&other));
    }

    #[test]
    fn a_request_may_name_only_the_policy_and_the_subject_of_its_token() {
        let (token, _) = token(&[1; SECRET_LEN]);
        let images = PolicyName::new("images");
        assert_eq!(token.check_policy(None), Ok(images.clone()));
        assert_eq!(token.check_policy(Some(&images)), Ok(images.clone()));
        let refused = token.check_policy(Some(&PolicyName::default()));
        assert_eq!(refused, Err(TokenError::OtherPolicy(images)));
        let cover: Subject = "album:1:cover".parse().unwrap();
        assert_eq!(token.check_subject(Some(&cover)), Err(TokenError::NoSubject));
        assert_eq!(token.check_subject(None), Ok(None));
        let token = UploadToken { attach_to: Some(cover.clone()), ..token };
        assert_eq!(token.check_subject(None), Ok(Some(cover.clone())));
        assert_eq!(token.check_subject(Some(&cover)), Ok(Some(cover.clone())));
        let other = "album:2:cover".parse().unwrap();
        assert_eq!(token.check_subject(Some(&other)), Err(TokenError::OtherSubject(cover)));
    }

    #[test]
    fn an_origin_is_allowed_if_the_token_names_it() {
        let (token, _) = token(&[1; SECRET_LEN]);
        assert!(token.allows_origin("https://app.example.com"));
        assert!(!token.allows_origin("https://app.example.com.evil.example"));
        let any = UploadToken { cors_origins: vec!["*".to_owned()], ..token };
        assert!(any.allows_origin("https://anything.example"));
    }
}
