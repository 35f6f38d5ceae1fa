//! `[policies.<name>.object]`: how the objects of a policy are stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::{self, Choice};
use crate::domain::object_settings::{MAX_TAGS, ObjectSettings, Sse};

/// Storage classes whose objects must be restored before they can be read. An upload could not be
/// verified, and a download would fail.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// The longest value of a header, in bytes.
const MAX_HEADER: usize = 1024;

impl Choice for Option<Sse> {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("", None),
        (Sse::Aes256.name(), Some(Sse::Aes256)),
        (Sse::Kms.name(), Some(Sse::Kms)),
        (Sse::KmsDsse.name(), Some(Sse::KmsDsse)),
    ];
}

/// `[policies.<name>.object]`. Texts that are empty in the configuration are `None`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectConfig {
    /// The server-side encryption; `None` means the bucket's default.
    #[serde(deserialize_with = "value::choice", serialize_with = "value::choice_name")]
    pub sse: Option<Sse>,
    /// The key of the encryption; `None` means the bucket's default.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub kms_key_id: Option<String>,
    /// The storage class, for example `STANDARD_IA`; `None` means the bucket's default.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub storage_class: Option<String>,
    /// The `Cache-Control` of downloads.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub cache_control: Option<String>,
    /// The tags of each object.
    #[serde(deserialize_with = "value::text_map")]
    pub tags: BTreeMap<String, String>,
}

impl ObjectConfig {
    /// As the domain's type.
    pub(super) fn settings(&self) -> ObjectSettings {
        ObjectSettings {
            sse: self.sse,
            kms_key_id: self.kms_key_id.clone(),
            storage_class: self.storage_class.clone(),
            cache_control: self.cache_control.clone(),
            tags: self.tags.clone(),
        }
    }

    /// The configuration key of a setting that the embedded server does not support, if one is set.
    pub(super) fn beyond_embedded(&self) -> Option<&'static str> {
        let set = [
            ("sse", self.sse.is_some()),
            ("storage_class", self.storage_class.is_some()),
            ("tags", !self.tags.is_empty()),
        ];
        set.into_iter().find(|(_, is_set)| *is_set).map(|(key, _)| key)
    }

    /// The configuration key of a setting that Azure does not support, with its problem.
    pub(super) fn beyond_azure(&self) -> Option<(&'static str, &'static str)> {
        let tiers = ["HOT", "COOL", "COLD"];
        let class = self.storage_class.as_deref();
        if self.sse.is_some_and(Sse::has_key) {
            let must = "must be \"AES256\" or empty; a key of Azure Key Vault is a setting of the \
                        storage account";
            Some(("sse", must))
        } else if class.is_some_and(|class| !tiers.contains(&class)) {
            Some(("storage_class", "must be \"HOT\", \"COOL\" or \"COLD\", Azure's access tiers"))
        } else {
            None
        }
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.kms_key_id.is_some() && !self.sse.is_some_and(Sse::has_key) {
            let needs = "needs sse = \"aws:kms\" or \"aws:kms:dsse\"";
            return Err(("kms_key_id", needs.to_owned()));
        }
        for (key, text) in
            [("kms_key_id", &self.kms_key_id), ("cache_control", &self.cache_control)]
        {
            if text.as_ref().is_some_and(|text| !is_header(text)) {
                let must = format!("must be printable ASCII of at most {MAX_HEADER} bytes");
                return Err((key, must));
            }
        }
        if let Some(class) = &self.storage_class {
            if ARCHIVES.contains(&class.as_str()) {
                let must = "must be a class whose objects can be read at once, such as GLACIER_IR";
                return Err(("storage_class", format!("{must}, not \"{class}\"")));
            }
            if !class.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
                let must = "must be a storage class such as \"STANDARD_IA\"";
                return Err(("storage_class", format!("{must}, not \"{class}\"")));
            }
        }
        self.check_tags().map_err(|problem| ("tags", problem))
    }

    /// S3's limits of tags.
    fn check_tags(&self) -> Result<(), String> {
        if self.tags.len() > MAX_TAGS {
            return Err(format!("must be at most {MAX_TAGS} tags, not {}", self.tags.len()));
        }
        for (name, value) in &self.tags {
            let allowed = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
            let good = !name.is_empty()
                && name.chars().count() <= 128
                && value.chars().count() <= 256
                && name.chars().chain(value.chars()).all(allowed)
                && !name.to_lowercase().starts_with("aws:");
            if !good {
                return Err(format!(
                    "must be names of 1 to 128 and values of 0 to 256 letters, digits, spaces and + - = . _ : / @, and no name begins with aws:, not \"{name}\" = \"{value}\""
                ));
            }
        }
        Ok(())
    }
}

/// Whether a text is sent in a header without changes.
fn is_header(text: &str) -> bool {
    text.len() <= MAX_HEADER && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}
