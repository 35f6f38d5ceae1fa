//! The access key of a store or a queue: three configuration keys that must be set together.

use secrecy::SecretString;

/// Checks that an access key is complete. The error contains the name of a configuration key and
/// its problem.
pub(super) fn check(
    id: Option<&str>,
    secret: Option<&SecretString>,
    session_token: Option<&SecretString>,
) -> Result<(), (&'static str, String)> {
    let incomplete = match (id, secret) {
        (Some(_), None) => Some(("secret_access_key", "access_key_id")),
        (None, Some(_)) => Some(("access_key_id", "secret_access_key")),
        _ => None,
    };
    if let Some((missing, present)) = incomplete {
        let instead = "omit both to use the standard AWS_* variables";
        return Err((missing, format!("must be set together with {present}; {instead}")));
    }
    if session_token.is_some() && id.is_none() {
        return Err(("session_token", "needs an access_key_id, which is missing".to_owned()));
    }
    Ok(())
}
