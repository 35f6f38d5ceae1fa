//! Checks that all keys exist. The known keys are the keys of `config/default.toml`. The tables
//! `storage.default`, `policies.tracks` and `inspectors.media` in that file show the keys of every
//! store, policy and inspector.

use ::config::{FileFormat, Format, Map, Value, ValueKind};

use super::error::ConfigError;
use super::layers::DEFAULT_TOML;
use super::webhooks::{COMMON_KEYS, ENDPOINT_KEYS};

/// Sections that contain a table for each name, and the name of the table in `config/default.toml`
/// that has all keys.
const NAMED: [(&str, &str); 3] =
    [("inspectors", "media"), ("storage", "default"), ("policies", "tracks")];

/// Refuses unknown keys, values instead of tables, malformed names, and missing keys that have no
/// default.
pub(super) fn check(tree: &Value) -> Result<(), ConfigError> {
    let known = FileFormat::Toml.parse(None, DEFAULT_TOML).unwrap_or_default();
    let known = Value::new(None, known);
    for (name, section) in sorted(table(tree, "configuration")?) {
        let Some(known_section) = get(&known, name) else {
            return Err(unknown(name, table(&known, "")?));
        };
        let section = table(section, name)?;
        if name == "webhooks" {
            webhooks(section)?;
            continue;
        }
        let named = NAMED.iter().find(|(named, _)| *named == name);
        let Some((_, example)) = named else {
            keys(section, name, known_section)?;
            continue;
        };
        let Some(known_keys) = get(known_section, example) else { continue };
        for (entry, value) in sorted(section) {
            let path = format!("{name}.{entry}");
            if !is_name(entry) {
                let problem = "a name may contain only lower-case letters, digits, - and _";
                return Err(ConfigError::new(path, problem));
            }
            let entries = table(value, &path)?;
            keys(entries, &path, known_keys)?;
            if name == "inspectors" && !entries.contains_key("kind") {
                let problem = "is missing; set \"clamd\" or \"http\"";
                return Err(ConfigError::new(format!("{path}.kind"), problem));
            }
            if name == "policies" && !entries.contains_key("prefix") {
                let problem = "is missing; set a prefix such as \"videos/\"";
                return Err(ConfigError::new(format!("{path}.prefix"), problem));
            }
        }
    }
    Ok(())
}

/// Checks the tables of the endpoints, and the keys that apply to all endpoints.
fn webhooks(section: &Map<String, Value>) -> Result<(), ConfigError> {
    let known: Map<String, Value> =
        ENDPOINT_KEYS.iter().map(|key| ((*key).to_owned(), Value::from(""))).collect();
    for (name, value) in sorted(section) {
        if COMMON_KEYS.contains(&name) {
            continue;
        }
        let path = format!("webhooks.{name}");
        if !is_name(name) {
            let problem = "a name may contain only lower-case letters, digits, - and _";
            return Err(ConfigError::new(path, problem));
        }
        let ValueKind::Table(entries) = &value.kind else {
            let common = COMMON_KEYS.join(", ");
            let problem =
                format!("unknown key; the keys here are {common}, and a table for each endpoint");
            return Err(ConfigError::new(path, problem));
        };
        keys(entries, &path, &Value::new(None, known.clone()))?;
    }
    Ok(())
}

fn keys(section: &Map<String, Value>, path: &str, known: &Value) -> Result<(), ConfigError> {
    let known = table(known, path)?;
    for (key, value) in sorted(section) {
        let path = format!("{path}.{key}");
        match known.get(key) {
            None => return Err(unknown(&path, known)),
            // A table with names that the operator chooses.
            Some(inner) if table(inner, &path).is_ok_and(Map::is_empty) => {
                table(value, &path)?;
            }
            // A table inside the table.
            Some(inner) if matches!(inner.kind, ValueKind::Table(_)) => {
                keys(table(value, &path)?, &path, inner)?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn unknown(path: &str, known: &Map<String, Value>) -> ConfigError {
    if known.is_empty() {
        return ConfigError::new(path, "unknown key; this section has no keys in this version");
    }
    let names: Vec<&str> = sorted(known).into_iter().map(|(name, _)| name).collect();
    ConfigError::new(path, format!("unknown key; the keys here are {}", names.join(", ")))
}

fn table<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, ConfigError> {
    match &value.kind {
        ValueKind::Table(table) => Ok(table),
        _ => Err(ConfigError::new(path, "must be a table of settings, not a value")),
    }
}

fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

/// The entries in order, so that errors always have the same order.
fn sorted(table: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut entries: Vec<(&str, &Value)> =
        table.iter().map(|(key, value)| (key.as_str(), value)).collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    !name.is_empty() && name.bytes().all(allowed)
}
