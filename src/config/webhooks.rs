//! `[webhooks]`: news for application backends. This version takes no keys here.

use serde::{Deserialize, Serialize};

/// `[webhooks]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {}
