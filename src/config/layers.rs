//! The layers of a configuration, merged into one tree in which every value has its source.

use std::path::{Path, PathBuf};

use ::config::{FileFormat, Format, Map, Source, Value, ValueKind};

use super::error::ConfigError;

/// All keys and their defaults.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// The prefix of environment variables.
pub const ENV_PREFIX: &str = "UPLOAD_COORDINATOR__";

type Error = ::config::ConfigError;

/// The sources of a configuration besides the built-in defaults. A later field overrides the
/// earlier ones.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those without [`ENV_PREFIX`] are ignored.
    pub env: Vec<(String, String)>,
    /// Full keys with their values, for example `("server.bind", "127.0.0.1:0")`.
    pub overrides: Vec<(String, String)>,
}

/// The names of environment variables that look like keys but do not have the exact [`ENV_PREFIX`],
/// each with the name that was probably meant. They have no effect.
pub fn near_misses<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<(String, String)> {
    let sections: Vec<String> =
        Text::built_in().0.into_keys().map(|section| section.to_uppercase()).collect();
    let suggestion = |name: &str| {
        if name.starts_with(ENV_PREFIX) {
            return None;
        }
        let upper = name.to_uppercase();
        let remaining = upper.strip_prefix(ENV_PREFIX.trim_end_matches('_'))?;
        let remaining = remaining.trim_start_matches(['_', '-', '.']);
        // The longest name is used, in case one section name is the beginning of another.
        let section = sections.iter().filter(|section| {
            remaining
                .strip_prefix(section.as_str())
                .is_some_and(|key| key.starts_with(['_', '-', '.']))
        });
        let section = section.max_by_key(|section| section.len())?;
        let key = remaining[section.len()..].trim_start_matches(['_', '-', '.']);
        (!key.is_empty()).then(|| (name.to_owned(), format!("{ENV_PREFIX}{section}__{key}")))
    };
    names.into_iter().filter_map(suggestion).collect()
}

impl Sources {
    /// The file and the environment variables of this process.
    pub fn of_process(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else {
                continue;
            };
            let value =
                value.into_string().map_err(|_| ConfigError::new(name, "must be UTF-8 text"))?;
            env.push((name.to_owned(), value));
        }
        Ok(Self { file: file.map(Path::to_path_buf), env, overrides: Vec::new() })
    }

    /// Only the file, or nothing, for tests.
    pub fn only_file(file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_path_buf), ..Self::default() }
    }

    /// Adds values with the highest priority.
    #[must_use]
    pub fn with_overrides(mut self, overrides: &[(&str, &str)]) -> Self {
        let owned = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.overrides.extend(owned);
        self
    }

    /// All layers as one tree.
    pub(super) fn tree(&self) -> Result<Value, ConfigError> {
        let mut builder = ::config::Config::builder().add_source(Text::built_in());
        if let Some(file) = &self.file {
            builder = builder.add_source(Text::read(file)?);
        }
        builder =
            builder.add_source(Pairs::env(&self.env)).add_source(Pairs::overrides(&self.overrides));
        let tree = builder
            .build()
            .map_err(|error| ConfigError::new("configuration", error.to_string()))?;
        Ok(tree.cache)
    }
}

/// A TOML text.
#[derive(Debug, Clone)]
struct Text(Map<String, Value>);

impl Text {
    /// The defaults have no origin, so errors don't show one.
    fn built_in() -> Self {
        Self(FileFormat::Toml.parse(None, DEFAULT_TOML).unwrap_or_default())
    }

    fn read(file: &Path) -> Result<Self, ConfigError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::new(&name, format!("cannot be read: {error}")))?;
        // The text is parsed with `toml` first, because only this error contains the position.
        if let Err(error) = text.parse::<toml::Table>() {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let why = error.message().replace('\n', ", ");
            return Err(ConfigError::new(&name, format!("is not TOML: {why}, in line {line}")));
        }
        let table = FileFormat::Toml
            .parse(Some(&format!("in {name}")), &text)
            .map_err(|error| ConfigError::new(&name, format!("is not TOML: {error}")))?;
        Ok(Self(table))
    }
}

impl Source for Text {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, Error> {
        Ok(self.0.clone())
    }
}

/// Values by their full keys.
#[derive(Debug, Clone)]
struct Pairs(Map<String, Value>);

impl Pairs {
    fn env(env: &[(String, String)]) -> Self {
        let mut sorted: Vec<&(String, String)> = env.iter().collect();
        sorted.sort();
        let mut table = Map::new();
        for (name, value) in sorted {
            let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
            let key = key.to_lowercase();
            let path: Vec<&str> = key.split("__").collect();
            insert(&mut table, &path, &format!("in the environment variable {name}"), value);
        }
        Self(table)
    }

    fn overrides(overrides: &[(String, String)]) -> Self {
        let mut table = Map::new();
        for (key, value) in overrides {
            let path: Vec<&str> = key.split('.').collect();
            insert(&mut table, &path, "on the command line", value);
        }
        Self(table)
    }
}

impl Source for Pairs {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, Error> {
        Ok(self.0.clone())
    }
}

fn insert(table: &mut Map<String, Value>, path: &[&str], origin: &str, value: &str) {
    let Some((first, remaining)) = path.split_first() else { return };
    let origin_text = origin.to_owned();
    if remaining.is_empty() {
        table.insert((*first).to_owned(), Value::new(Some(&origin_text), value));
        return;
    }
    let child = table
        .entry((*first).to_owned())
        .or_insert_with(|| Value::new(Some(&origin_text), Map::<String, Value>::new()));
    if !matches!(child.kind, ValueKind::Table(_)) {
        *child = Value::new(Some(&origin_text), Map::<String, Value>::new());
    }
    if let ValueKind::Table(table) = &mut child.kind {
        insert(table, remaining, origin, value);
    }
}

/// The source of the value of a full key; `None` for a default.
pub(super) fn origin(tree: &Value, key: &str) -> Option<String> {
    let key = key.split('[').next().unwrap_or_default();
    let value = key.split('.').try_fold(tree, |value, segment| match &value.kind {
        ValueKind::Table(table) => table.get(segment),
        _ => None,
    })?;
    first_origin(value)
}

fn first_origin(value: &Value) -> Option<String> {
    if let Some(origin) = value.origin() {
        return Some(origin.to_owned());
    }
    match &value.kind {
        ValueKind::Table(table) => {
            let mut keys: Vec<&String> = table.keys().collect();
            keys.sort();
            keys.into_iter().filter_map(|key| table.get(key)).find_map(first_origin)
        }
        _ => None,
    }
}
