//! JSON Web Tokens. The configuration decides which algorithms are accepted, never the token.
//! `exp` is required.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::{Denied, Identity, Jwks, owner};
use crate::domain::{Owner, Scopes};

/// The longest token, in bytes. A longer one is refused before it is decoded.
const MAX_TOKEN_LEN: usize = 16 * 1024;

const MALFORMED: &str = "The token is not a JSON Web Token";

/// The requirements that tokens must meet.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// The accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The required `iss`; `None` accepts any.
    pub issuer: Option<String>,
    /// `aud` must contain one of these. If the list is empty, tokens with an `aud` are refused.
    pub audience: Vec<String>,
    /// The accepted clock difference, in seconds.
    pub leeway: u64,
    /// The name of the claim with the owner.
    pub owner_claim: String,
    /// The name of the claim with the scopes.
    pub scope_claim: String,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct JwtVerifier {
    settings: JwtSettings,
    jwks: Option<Jwks>,
    secret: Option<DecodingKey>,
}

impl JwtVerifier {
    /// `jwks` has the keys of RS256, ES256 and `EdDSA`; `secret` is the key of HS256.
    pub fn new(settings: JwtSettings, jwks: Option<Jwks>, secret: Option<&[u8]>) -> Self {
        Self { settings, jwks, secret: secret.map(DecodingKey::from_secret) }
    }

    pub(super) async fn identify(&self, token: &str) -> Result<Identity, Denied> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(Denied::Invalid(MALFORMED));
        }
        let header = decode_header(token).map_err(|_| Denied::Invalid(MALFORMED))?;
        if !self.settings.algorithms.contains(&header.alg) {
            return Err(Denied::Invalid("The token's algorithm is not accepted"));
        }
        if header.crit.is_some() {
            return Err(Denied::Invalid("The token has unknown critical headers"));
        }
        let key = self.key(header.alg, header.kid.as_deref()).await?;
        let claims = decode::<Map<String, Value>>(token, &key, &self.validation(header.alg));
        let claims = claims.map_err(|error| Denied::Invalid(sentence(error.kind())))?.claims;
        let name = claims.get(&self.settings.owner_claim).and_then(Value::as_str);
        let owner = name.and_then(owner);
        // The owner `default` has the data that was created without authentication. No token may
        // give access to it.
        if owner == Some(Owner::anonymous()) {
            return Err(Denied::Invalid("The token's owner is a reserved name"));
        }
        Ok(Identity {
            owner: owner.ok_or(Denied::Invalid("The token has no valid owner claim"))?,
            scopes: scopes(claims.get(&self.settings.scope_claim)),
        })
    }

    /// The secret is used for HS256 only and the JWK set for all other algorithms, so that a
    /// public key is never used as a secret.
    async fn key(&self, algorithm: Algorithm, id: Option<&str>) -> Result<DecodingKey, Denied> {
        let unknown = Denied::Invalid("The token's algorithm is not accepted");
        if algorithm == Algorithm::HS256 {
            return self.secret.clone().ok_or(unknown);
        }
        match &self.jwks {
            Some(jwks) => jwks.find(algorithm, id).await,
            None => Err(unknown),
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let JwtSettings { issuer, audience, leeway, .. } = &self.settings;
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp"];
        validation.leeway = *leeway;
        validation.validate_nbf = true;
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if !audience.is_empty() {
            validation.set_audience(audience);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn sentence(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "The token has expired",
        ErrorKind::ImmatureSignature => "The token is not valid yet",
        ErrorKind::InvalidIssuer => "The token has another issuer",
        ErrorKind::InvalidAudience => "The token has another audience",
        ErrorKind::InvalidSignature => "The token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "A claim of the token is missing or malformed"
        }
        _ => MALFORMED,
    }
}

/// The scopes of a claim: a string with spaces (RFC 8693), or a list, as some issuers write it.
fn scopes(claim: Option<&Value>) -> Scopes {
    match claim {
        Some(Value::String(text)) => Scopes::known(text.split(' ')),
        Some(Value::Array(names)) => Scopes::known(names.iter().filter_map(Value::as_str)),
        _ => Scopes::default(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mutate::{changed, mutated};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn verifier() -> JwtVerifier {
        let settings = JwtSettings {
            algorithms: vec![Algorithm::HS256],
            issuer: Some("https://id.example.com".into()),
            audience: vec!["uploads".into()],
            leeway: 30,
            owner_claim: "sub".into(),
            scope_claim: "scope".into(),
        };
        JwtVerifier::new(settings, None, Some(SECRET))
    }

    fn claims(change: &Value) -> Value {
        let mut claims = json!({"iss": "https://id.example.com", "aud": "uploads",
            "exp": get_current_timestamp() + 60, "sub": "ann", "scope": "openid tracks:read"});
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    fn signed(change: &Value) -> String {
        let header = Header::new(Algorithm::HS256);
        encode(&header, &claims(change), &EncodingKey::from_secret(SECRET)).unwrap()
    }

    async fn outcome(token: &str) -> String {
        match verifier().identify(token).await {
            Ok(identity) => format!("{}: {}", identity.owner.as_str(), identity.scopes),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_valid_token_names_owner_and_scopes() {
        assert_eq!(outcome(&signed(&json!({}))).await, "ann: tracks:read");
        let list = signed(&json!({"scope": ["admin", "x", 5], "aud": ["a", "uploads"]}));
        assert_eq!(outcome(&list).await, "ann: admin");
        assert_eq!(outcome(&signed(&json!({"scope": null}))).await, "ann: ");
        let late = get_current_timestamp() - 10;
        assert_eq!(outcome(&signed(&json!({"exp": late}))).await, "ann: tracks:read", "leeway");
    }

    #[tokio::test]
    async fn a_token_with_a_wrong_claim_is_refused() {
        let now = get_current_timestamp();
        for (change, why) in [
            (json!({"exp": now - 60}), "expired"),
            (json!({"exp": null}), "missing"),
            (json!({"exp": "soon"}), "missing or malformed"),
            (json!({"nbf": now + 60}), "not valid yet"),
            (json!({"iss": "https://evil.example.com"}), "issuer"),
            (json!({"iss": null}), "missing"),
            (json!({"aud": "others"}), "audience"),
            (json!({"aud": null}), "missing"),
            (json!({"sub": "default"}), "reserved"),
            (json!({"sub": null}), "owner claim"),
            (json!({"sub": ""}), "owner claim"),
            (json!({"sub": 5}), "owner claim"),
            (json!({"sub": "a\u{0}b"}), "owner claim"),
            (json!({"sub": "x".repeat(256)}), "owner claim"),
        ] {
            let outcome = outcome(&signed(&change)).await;
            assert!(outcome.contains(why), "{change}: {outcome}");
        }
    }

    #[tokio::test]
    async fn a_token_that_chooses_another_algorithm_is_refused() {
        use base64::Engine as _;
        use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
        let payload = B64.encode(claims(&json!({})).to_string());
        for alg in ["none", "None", "NONE", "HS512", "RS256", "ES256"] {
            let header = B64.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
            for signature in ["", "AAAA"] {
                let outcome = outcome(&format!("{header}.{payload}.{signature}")).await;
                assert!(!outcome.starts_with("ann"), "{alg}: {outcome}");
            }
        }
        let other = Header::new(Algorithm::HS512);
        let key = EncodingKey::from_secret(SECRET);
        let token = encode(&other, &claims(&json!({})), &key).unwrap();
        assert!(outcome(&token).await.contains("algorithm"));
        let forged = EncodingKey::from_secret(b"another secret, as long as the first one");
        let forged = encode(&Header::default(), &claims(&json!({})), &forged).unwrap();
        assert!(outcome(&forged).await.contains("signature"));
        let mut critical = Header::new(Algorithm::HS256);
        critical.crit = Some(vec!["exp".into()]);
        let critical = encode(&critical, &claims(&json!({})), &key).unwrap();
        assert!(outcome(&critical).await.contains("critical"));
    }

    #[tokio::test]
    async fn garbage_is_not_a_token() {
        let long = "a.".repeat(20_000);
        for text in ["", ".", "..", "a.b.c", "....", "é.é.é", &long] {
            assert_eq!(outcome(text).await, MALFORMED, "{text}");
        }
    }

    /// Without a JWK set to fetch, the future does not wait.
    fn identified(token: &str) -> Result<Identity, Denied> {
        verifier().identify(token).now_or_never().unwrap()
    }

    /// A payload, valid or not, signed with the secret.
    fn signed_payload(payload: &[u8]) -> String {
        use base64::Engine as _;
        use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
        let header = B64.encode(json!({"alg": "HS256"}).to_string());
        let message = format!("{header}.{}", B64.encode(payload));
        let key = EncodingKey::from_secret(SECRET);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.unwrap())
    }

    proptest! {
        #[test]
        fn a_changed_token_is_refused(
            (_, token) in changed("[a-z]{1,8}".prop_map(|sub| signed(&json!({"sub": sub})))),
        ) {
            prop_assert!(identified(&String::from_utf8_lossy(&token)).is_err());
        }

        #[test]
        fn any_text_is_refused(token in "\\PC{0,80}|[a-zA-Z0-9_-]{0,40}(\\.[a-zA-Z0-9_-]{0,40}){0,4}") {
            prop_assert!(identified(&token).is_err());
        }

        #[test]
        fn damaged_claims_with_a_valid_signature_name_a_valid_owner_or_none(
            payload in mutated("\\PC{1,8}".prop_map(|sub| claims(&json!({"sub": sub})).to_string())),
        ) {
            if let Ok(identity) = identified(&signed_payload(&payload)) {
                let claims: Value = serde_json::from_slice(&payload).unwrap();
                prop_assert_eq!(claims["sub"].as_str(), Some(identity.owner.as_str()));
                prop_assert!(owner(identity.owner.as_str()).is_some());
                prop_assert_eq!(&claims["iss"], "https://id.example.com");
                prop_assert!(claims["exp"].is_number());
            }
        }
    }
}
