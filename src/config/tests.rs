//! The configuration as operators use it: the values that they write, and the errors that they get.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use chrono::TimeDelta;
use secrecy::ExposeSecret;

use super::*;

use crate::domain::key::Prefix;
use crate::domain::object_settings::Sse;
use crate::domain::policy::{Late, Overwrite};

mod sentences;
mod values;

fn from_file(text: &str) -> Result<Config, ConfigError> {
    load(text, &[], &[])
}

fn from_env(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load("", env, &[])
}

fn load(
    text: &str,
    env: &[(&str, &str)],
    overrides: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env = env.iter().map(|(name, value)| (format!("{ENV_PREFIX}{name}"), (*value).to_owned()));
    let sources = Sources { env: env.collect(), ..Sources::only_file(Some(file.path())) };
    Config::from_sources(&sources.with_overrides(overrides)).map_err(|error| {
        // Only the temporary name of the file differs between runs.
        let named = error.to_string().replace(&file.path().display().to_string(), "FILE");
        let (key, problem) = named.split_once(": ").unwrap();
        ConfigError::new(key, problem)
    })
}

/// The defaults in the code of the sections, without `config/default.toml`.
fn defaults_of_the_code() -> Config {
    let tracks = PolicyConfig::new(Prefix::parse("tracks/").unwrap());
    Config {
        server: ServerConfig::default(),
        database: DatabaseConfig::default(),
        storage: BTreeMap::from([("default".to_owned(), StoreConfig::default())]),
        policies: BTreeMap::from([("tracks".to_owned(), tracks)]),
        reconcile: ReconcileConfig::default(),
        events: EventsConfig::default(),
        webhooks: WebhooksConfig::default(),
        dialects: DialectsConfig::default(),
        inspectors: BTreeMap::from([(
            "media".to_owned(),
            InspectorConfig::new(InspectorKind::Media),
        )]),
        auth: AuthConfig::default(),
        direct_upload: DirectUploadConfig::default(),
        limits: LimitsConfig::default(),
        telemetry: TelemetryConfig::default(),
    }
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, into),
            value => {
                into.insert(key, value.clone());
            }
        }
    }
}

fn keys(text: &str) -> BTreeMap<String, toml::Value> {
    let mut flat = BTreeMap::new();
    flatten("", &text.parse().unwrap(), &mut flat);
    flat
}

#[test]
fn the_default_file_has_every_key_with_the_default_of_the_code() {
    let loaded = from_file("").unwrap().masked().unwrap();
    assert_eq!(loaded, defaults_of_the_code().masked().unwrap());
    let written: Vec<String> = keys(DEFAULT_TOML).into_keys().collect();
    assert_eq!(written, keys(&loaded).into_keys().collect::<Vec<_>>());
}

#[test]
fn every_key_of_the_default_file_is_explained_above_it() {
    let mut explained = false;
    for line in DEFAULT_TOML.lines() {
        if line.trim().is_empty() {
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else if !line.starts_with('[') {
            assert!(explained, "no comment above {line:?} in its block");
        }
    }
}

#[test]
fn an_error_names_the_file_that_cannot_be_read() {
    let error = Config::from_sources(&Sources::only_file(Some(Path::new("/no/such.toml"))));
    let sentence = error.unwrap_err().to_string();
    assert!(sentence.starts_with("/no/such.toml: cannot be read: "), "{sentence}");
}

#[test]
fn an_error_names_the_environment_variable_or_the_command_line_with_the_value() {
    let error = from_env(&[("SERVER__BIND", "x")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "server.bind: must be an address such as 127.0.0.1:8080, not \"x\" (in the environment variable UPLOAD_COORDINATOR__SERVER__BIND)"
    );
    let error = from_env(&[("POLICIES__TRACKS__MAX_SISE", "1")]).unwrap_err();
    assert!(
        error.to_string().starts_with("policies.tracks.max_sise: unknown key; the keys here are")
    );
    assert!(error.to_string().ends_with("UPLOAD_COORDINATOR__POLICIES__TRACKS__MAX_SISE)"));
    let error = from_env(&[("SERVER", "x")]).unwrap_err();
    assert!(error.to_string().starts_with("server: must be a table of settings, not a value"));
    let error = from_env(&[("", "x")]).unwrap_err();
    assert!(error.to_string().ends_with("(in the environment variable UPLOAD_COORDINATOR__)"));
    let error = load("", &[], &[("server.bind", "x")]).unwrap_err();
    assert!(error.to_string().ends_with("not \"x\" (on the command line)"));
}

#[test]
fn later_layers_win() {
    let file = "[server]\nbind = \"127.0.0.1:1\"\n[reconcile]\nconcurrency = 2\nlease = \"2s\"";
    let env = [("SERVER__BIND", "127.0.0.1:3"), ("RECONCILE__LEASE", "3s")];
    let config = load(file, &env, &[("server.bind", "[::1]:4")]).unwrap();
    assert_eq!(config.server.bind.to_string(), "[::1]:4");
    assert_eq!(config.reconcile.lease.get(), Duration::from_secs(3));
    assert_eq!(config.reconcile.concurrency, 2);
    assert_eq!(config.reconcile.page_size, 1000);
}

#[test]
fn an_owner_has_a_limit_only_with_authentication() {
    let open = from_file("").unwrap();
    assert_eq!(open.share(open.limits.waiters_per_owner), usize::MAX);
    let keyed = from_file("[auth]\nmode = \"api_key\"").unwrap();
    assert_eq!(keyed.share(keyed.limits.waiters_per_owner), 1000);
    assert_eq!(keyed.share(keyed.limits.direct_uploads_per_owner), 64);
    assert_eq!(keyed.share(0), usize::MAX);
}

#[test]
fn environment_variables_can_set_every_kind_of_value_and_do_not_change_texts() {
    let config = from_env(&[
        ("DATABASE__URL", "postgres://app:p%40ss@db:5432/app?sslmode=require"),
        ("DATABASE__MAX_CONNECTIONS", "007"),
        ("STORAGE__DEFAULT__ENDPOINT", "http://minio:9000"),
        ("STORAGE__DEFAULT__PUBLIC_ENDPOINT", "https://files.example.com"),
        ("STORAGE__DEFAULT__BUCKET", "12345"),
        ("STORAGE__DEFAULT__ACCESS_KEY_ID", "00123"),
        ("STORAGE__DEFAULT__SECRET_ACCESS_KEY", " 00123,4e5 "),
        ("STORAGE__DEFAULT__PROBE", "off"),
        ("STORAGE__ARCHIVE__KIND", "embedded"),
        ("POLICIES__TRACKS__ALLOWED_EXTENSIONS", "MP3, ogg,"),
        ("POLICIES__TRACKS__ALLOWED_CONTENT_TYPES", ""),
        ("POLICIES__TRACKS__MAX_SIZE", "100 MiB"),
        ("POLICIES__TRACKS__WRITE_ONCE", "true"),
        ("POLICIES__TRACKS__OBJECT__SSE", "aws:kms"),
        ("POLICIES__TRACKS__OBJECT__TAGS__TEAM", "7"),
        ("POLICIES__OLD_TAPES__PREFIX", "tracks/"),
        ("POLICIES__OLD_TAPES__STORE", "archive"),
        ("POLICIES__OLD_TAPES__LATE", "reject"),
        ("RECONCILE__SCHEDULE", "off"),
        ("RECONCILE__FINDINGS_RETENTION", "36h"),
        ("TELEMETRY__LOG_FORMAT", "json"),
    ])
    .unwrap();
    assert_eq!(config.database.max_connections, 7);
    assert!(!config.database.url.is_sqlite());
    let store = &config.storage["default"];
    assert_eq!(store.bucket("default"), Ok("12345"));
    assert_eq!(store.access_key_id.as_deref(), Some("00123"));
    let secret = store.secret_access_key.as_ref().unwrap().expose_secret();
    assert_eq!(secret, " 00123,4e5 ");
    assert!(!store.probe && store.uses_path_style());
    assert_eq!(store.public_endpoint(), Some("https://files.example.com"));
    assert_eq!(config.storage["archive"].bucket("archive"), Ok("uploads"));
    let tracks = config.policies["tracks"].policy("tracks");
    assert_eq!(tracks.allowed_extensions, ["mp3", "ogg"]);
    assert!(tracks.allowed_content_types.is_empty());
    assert_eq!((tracks.max_size, tracks.write_once), (100 << 20, Some(true)));
    assert_eq!(tracks.object.sse, Some(Sse::Kms));
    assert_eq!(tracks.object.tags, [("team".to_owned(), "7".to_owned())].into());
    let tapes = config.policies["old_tapes"].policy("old_tapes");
    assert_eq!((tapes.late, tapes.overwrite), (Late::Reject, Overwrite::Reject));
    assert_eq!((tapes.grace, tapes.max_size), (TimeDelta::minutes(15), 100 << 20));
    assert_eq!(config.reconcile.schedule.cron(), None);
    assert_eq!(config.reconcile.findings_retention.get(), Duration::from_hours(36));
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
}

#[test]
fn other_variables_are_ignored() {
    let sources = Sources {
        env: vec![
            ("UPLOAD_COORDINATOR_BIN".to_owned(), "x".to_owned()),
            ("AWS_REGION".to_owned(), "eu-west-1".to_owned()),
        ],
        ..Sources::default()
    };
    assert!(Config::from_sources(&sources).is_ok());
}

#[test]
fn a_variable_that_looks_like_a_key_is_reported_with_the_right_name() {
    let meant = |name: &str| near_misses([name]).pop().map(|(_, meant)| meant);
    for name in [
        "UPLOAD_COORDINATOR_SERVER_BIND",
        "UPLOAD_COORDINATOR_SERVER__BIND",
        "upload_coordinator__server__bind",
        "UPLOAD_COORDINATOR.SERVER.BIND",
    ] {
        assert_eq!(meant(name).as_deref(), Some("UPLOAD_COORDINATOR__SERVER__BIND"), "{name}");
    }
    let part_size = meant("UPLOAD_COORDINATOR_DIRECT_UPLOAD_PART_SIZE");
    assert_eq!(part_size.as_deref(), Some("UPLOAD_COORDINATOR__DIRECT_UPLOAD__PART_SIZE"));
    for name in [
        "UPLOAD_COORDINATOR__SERVER__BIND",
        "UPLOAD_COORDINATOR__SERVER_BIND",
        "UPLOAD_COORDINATOR_BIN",
        "UPLOAD_COORDINATOR_SERVER",
        "SERVER_BIND",
    ] {
        assert_eq!(meant(name), None, "{name}");
    }
}

#[test]
fn no_part_of_an_unescaped_password_is_shown() {
    let url = |userinfo: &str| format!("[database]\nurl = \"postgres://{userinfo}@db/app\"");
    for userinfo in ["app:hun@ter/2", "app:12/hunter", "app:12?hunter", "app:12#hunter"] {
        let error = from_file(&url(userinfo)).expect_err(userinfo).to_string();
        assert!(error.starts_with("database.url: has an unescaped character"), "{error}");
        assert!(!error.contains("hun") && !error.contains("12"), "{error}");
    }
    for userinfo in ["app:hun@ter", "app:hun:ter", "app:hun%2Fter"] {
        let masked = from_file(&url(userinfo)).expect(userinfo).database.url.masked();
        assert_eq!(masked, "postgres://app:********@db/app", "{userinfo}");
    }
}

#[test]
fn webhooks_go_to_public_addresses_unless_private_ones_are_allowed() {
    let webhooks = |allow: bool, url: &str| {
        from_file(&format!(
            "[webhooks]\nallow_private = {allow}\n[webhooks.crm]\nurl = \"{url}\"\n\
             secret = \"whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\""
        ))
    };
    for url in [
        "http://127.0.0.1:1/",
        "http://localhost/",
        "https://a.LOCALHOST./",
        "http://[::1]/",
        "http://10.0.0.1/",
    ] {
        let error = webhooks(false, url).expect_err(url).to_string();
        assert!(error.starts_with("webhooks.crm.url: "), "{error}");
        assert!(error.contains("webhooks.allow_private = true allows it"), "{error}");
        assert!(webhooks(true, url).is_ok(), "{url}");
    }
    assert!(webhooks(false, "https://hooks.example.com/a").is_ok());
}

#[test]
fn two_policies_may_have_the_same_prefix_only_in_different_buckets() {
    let two = |second: &str| {
        from_file(&format!(
            "[storage.default]\nendpoint = \"http://a\"\nbucket = \"one\"\n\
             [storage.other]\n{second}\n[policies.b]\nprefix = \"tracks/\"\nstore = \"other\""
        ))
    };
    assert!(two("endpoint = \"http://a\"\nbucket = \"two\"").is_ok());
    assert!(two("endpoint = \"http://b\"\nbucket = \"one\"").is_ok());
    assert!(two("kind = \"embedded\"\nbucket = \"one\"").is_ok());
    let error = two("endpoint = \"http://a\"\nbucket = \"one\"").unwrap_err();
    assert!(error.to_string().contains("overlaps \"tracks/\" of policies.tracks"), "{error}");
    assert!(two("endpoint = \"http://A:80/\"\nbucket = \"one\"").is_err(), "another spelling");
}

#[test]
fn a_configured_grace_of_zero_is_used() {
    let config = from_file("[policies.tracks]\ngrace = \"0s\"").unwrap();
    assert_eq!(config.policies["tracks"].policy("tracks").grace, TimeDelta::zero());
}

#[test]
fn only_stores_in_use_need_a_bucket() {
    let error = from_file("").unwrap().require_stores().unwrap_err();
    assert_eq!(error.to_string(), "storage.default.bucket: must be set to the name of the bucket");
    let other = "[storage.media]\nbucket = \"media\"\n[policies.tracks]\nstore = \"media\"";
    assert_eq!(from_file(other).unwrap().require_stores(), Ok(()));
    let embedded = from_file("[storage.default]\nkind = \"embedded\"").unwrap();
    assert_eq!(embedded.require_stores(), Ok(()));
}

#[test]
fn the_masked_configuration_shows_no_secret_and_can_be_loaded_again() {
    let text = "[database]\nurl = \"postgres://app:hunter2@db/app?password=hunter3&sslmode=require\"\n\
        [storage.default]\nbucket = \"files\"\naccess_key_id = \"AKIA\"\n\
        secret_access_key = \"hunter4\"\nsession_token = \"hunter5\"\n\
        [storage.azure]\nkind = \"azure\"\naccount = \"mycompany\"\naccess_key = \"hunter7\"\n\
        [policies.videos]\nprefix = \"videos/\"\nwrite_once = true\nurl_ttl = \"36h\"\n\
        max_url_ttl = \"2d\"\nallowed_extensions = []\n\
        [auth.jwt]\nsecret = \"hunter6\"";
    let config = from_file(text).unwrap();
    let masked = config.masked().unwrap();
    assert!(!masked.contains("hunter"), "{masked}");
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    assert!(
        masked
            .contains("url = \"postgres://app:********@db/app?password=********&sslmode=require\"")
    );
    assert!(masked.contains("secret_access_key = \"********\""));
    assert!(masked.contains("url_ttl = \"36h\""));
    let again = from_file(&masked).unwrap();
    assert_eq!(again.masked().unwrap(), masked);
}

#[test]
fn durations_and_sizes_are_written_as_they_are_read() {
    for text in ["0s", "90s", "15min", "1h", "24h", "36h", "2d", "30d", "250ms"] {
        let duration: ConfigDuration = text.parse().expect(text);
        assert_eq!(duration.to_string(), text);
    }
    for text in ["0B", "1B", "1000B", "64KiB", "100MiB", "5GiB", "5TiB", "1025MiB"] {
        let size: ConfigSize = text.parse().expect(text);
        assert_eq!(size.to_string(), text);
    }
    let sizes =
        [("100 MiB", 100 << 20), ("1MB", 1_000_000), ("1048576", 1 << 20), ("1.5GiB", 3 << 29)];
    for (text, bytes) in sizes {
        assert_eq!(text.parse(), Ok(ConfigSize::from_bytes(bytes)), "{text}");
    }
}
