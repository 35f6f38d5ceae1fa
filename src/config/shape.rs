//! Which keys there are: those of `config/default.toml`, where `storage.default` and
//! `policies.tracks` stand for every store and policy.

use ::config::{FileFormat, Format, Map, Value, ValueKind};

use super::error::ConfigError;
use super::layers::DEFAULT_TOML;
use super::webhooks::{COMMON_KEYS, ENDPOINT_KEYS};

/// Sections with a table for each name, and the one whose keys they all have.
const NAMED: [(&str, &str); 2] = [("storage", "default"), ("policies", "tracks")];

/// Finds keys that don't exist, values where sections belong, and names and prefixes that
/// are missing or malformed.
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
                let takes = "a name takes lower-case letters, digits, - and _";
                return Err(ConfigError::new(path, takes));
            }
            let entries = table(value, &path)?;
            keys(entries, &path, known_keys)?;
            if name == "policies" && !entries.contains_key("prefix") {
                let problem = "is missing; takes a prefix such as \"videos/\"";
                return Err(ConfigError::new(format!("{path}.prefix"), problem));
            }
        }
    }
    Ok(())
}

/// Endpoints by name, with one key for all beside them.
fn webhooks(section: &Map<String, Value>) -> Result<(), ConfigError> {
    let known: Map<String, Value> =
        ENDPOINT_KEYS.iter().map(|key| ((*key).to_owned(), Value::from(""))).collect();
    for (name, value) in sorted(section) {
        if COMMON_KEYS.contains(&name) {
            continue;
        }
        let path = format!("webhooks.{name}");
        if !is_name(name) {
            let takes = "a name takes lower-case letters, digits, - and _";
            return Err(ConfigError::new(path, takes));
        }
        let ValueKind::Table(entries) = &value.kind else {
            let common = COMMON_KEYS.join(", ");
            let takes = format!("unknown key; takes {common} and a section for each endpoint");
            return Err(ConfigError::new(path, takes));
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
            // A section within the section.
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
        return ConfigError::new(path, "unknown key; its section takes none in this version");
    }
    let names: Vec<&str> = sorted(known).into_iter().map(|(name, _)| name).collect();
    ConfigError::new(path, format!("unknown key; takes one of {}", names.join(", ")))
}

fn table<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, ConfigError> {
    match &value.kind {
        ValueKind::Table(table) => Ok(table),
        _ => Err(ConfigError::new(path, "takes a section of keys, not a value")),
    }
}

fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

/// Maps have no order of their own; errors should come in the same order always.
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
