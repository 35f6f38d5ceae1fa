//! `[events]`: bucket events as hints. This version takes no keys here.

use serde::{Deserialize, Serialize};

/// `[events]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {}
