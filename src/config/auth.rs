//! `[auth]`: who may call.

use serde::{Deserialize, Deserializer, Serialize};

use super::value;

/// `[auth]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How callers are told apart.
    #[serde(deserialize_with = "mode")]
    pub mode: AuthMode,
}

/// How callers are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Not at all: whoever reaches the service may call everything.
    #[default]
    None,
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AuthMode, D::Error> {
    let takes = "\"none\" in this version, which leaves access control to the network in front";
    value::parsed(deserializer, takes, |text| (text == "none").then_some(AuthMode::None))
}
