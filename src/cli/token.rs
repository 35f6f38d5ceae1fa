//! `token`: API keys.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::adapters;
use crate::auth::{self, api_keys};
use crate::config::{Config, ConfigDuration};
use crate::db::Db;
use crate::domain::api_key::{ApiKey, MAX_NAME_CHARS};
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::domain::{Clock as _, Owner, Scope, Timestamp};

/// The arguments of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a key. Its text is printed once and stored nowhere.
    Create {
        /// The owner that the key acts for. Tracks and uploads belong to owners.
        #[arg(long, value_parser = owner)]
        owner: Owner,
        /// A scope; repeatable: uploads:write, uploads:read, tracks:write, tracks:read, admin.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// The key's lifetime, such as 90d. Without it, the key is valid until it is revoked.
        #[arg(long, value_parser = lifetime)]
        expires_in: Option<TimeDelta>,
        /// A description.
        #[arg(long, default_value = "", value_parser = name)]
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List keys, without their secrets.
    List {
        /// Only the keys of this owner.
        #[arg(long, value_parser = owner)]
        owner: Option<Owner>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key. Running services refuse it within `auth.api_key_cache`.
    Revoke {
        /// The key's id, as `list` prints it.
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn owner(text: &str) -> Result<Owner, String> {
    auth::owner(text).ok_or_else(|| {
        format!(
            "must have 1 to {} bytes, no control characters, and not begin with `system:`",
            auth::MAX_OWNER_LEN
        )
    })
}

fn name(text: &str) -> Result<String, String> {
    if text.chars().count() > MAX_NAME_CHARS || text.chars().any(char::is_control) {
        return Err(format!(
            "must have at most {MAX_NAME_CHARS} characters and no control characters"
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn lifetime(text: &str) -> Result<TimeDelta, String> {
    let duration: Option<ConfigDuration> = text.parse().ok();
    duration
        .filter(|duration| !duration.get().is_zero())
        .map(ConfigDuration::delta)
        .ok_or_else(|| "must be a duration above zero such as 12h or 90d".to_owned())
}

/// Creates, lists or revokes keys.
pub async fn run(file: Option<&Path>, args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    let db = adapters::database(&config).await?;
    adapters::require_schema(&db).await?;
    let code = act(&db, &args.action).await;
    db.close().await?;
    code
}

async fn act(db: &Db, action: &Action) -> anyhow::Result<ExitCode> {
    match action {
        Action::Create { owner, scopes, expires_in, name, json } => {
            let new = api_keys::NewApiKey {
                name: name.clone(),
                owner: owner.clone(),
                scopes: scopes.iter().copied().collect(),
                expires_in: *expires_in,
            };
            let (key, text) = api_keys::create(db, &SystemClock, &SystemIds, new).await?;
            if *json {
                let mut shown = as_json(&key);
                shown["token"] = text.expose_secret().into();
                print(&shown)?;
            } else {
                // Only the key goes to stdout, so that `$(... token create ...)` works.
                println!("{}", text.expose_secret());
                eprintln!("id {}; the key is not shown again", key.id);
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::List { owner, json } => {
            let keys = api_keys::list(db, owner.as_ref()).await?;
            if *json {
                print(&Value::Array(keys.iter().map(as_json).collect()))?;
            } else {
                println!("{}", table(&keys));
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Revoke { id, json } => {
            let revoked = api_keys::revoke(db, &SystemClock, *id).await?;
            if *json {
                print(&json!({"id": id, "revoked": revoked}))?;
            } else if revoked {
                println!("revoked {id}");
            }
            if !revoked {
                eprintln!("there is no key {id}, or it is already revoked");
                return Ok(ExitCode::FAILURE);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) fn print(value: &Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value).context("JSON")?);
    Ok(())
}

fn status(key: &ApiKey) -> &'static str {
    match key {
        ApiKey { revoked_at: Some(_), .. } => "revoked",
        key if key.is_live(SystemClock.now()) => "live",
        _ => "expired",
    }
}

fn as_json(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "owner": key.owner.as_str(),
        "scopes": key.scopes.names().collect::<Vec<_>>(),
        "status": status(key),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    })
}

fn table(keys: &[ApiKey]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["id", "owner", "scopes", "status", "expires", "last used", "name"]);
    let time = |at: Option<Timestamp>| {
        at.map_or("never".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string())
    };
    for key in keys {
        table.add_row([
            key.id.to_string(),
            key.owner.as_str().to_owned(),
            key.scopes.to_string(),
            status(key).to_owned(),
            time(key.expires_at),
            time(key.last_used_at),
            key.name.clone(),
        ]);
    }
    table
}
