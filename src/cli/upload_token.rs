//! `upload-token`: upload tokens.

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
use super::token::{lifetime, owner, print};
use crate::auth::upload_tokens::{self, NewUploadToken};
use crate::config::{Config, ConfigSize};
use crate::db::Db;
use crate::db::upload_tokens::UploadTokenFilter;
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::domain::{Clock as _, Owner, PolicyName, Subject, UploadToken, UploadTokenId};

/// Rows in one page of the list.
const PAGE: u64 = 500;

/// The arguments of `upload-token`.
#[derive(Debug, Args)]
pub struct UploadTokenArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a token. Its text is printed once and stored nowhere.
    Create(CreateArgs),
    /// List tokens, newest first, without their secrets.
    List {
        /// Only the tokens of this owner.
        #[arg(long, value_parser = owner)]
        owner: Option<Owner>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token. Running services refuse it within one second.
    Revoke {
        /// The token's id, as `list` prints it.
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The arguments of `upload-token create`.
#[derive(Debug, Args)]
struct CreateArgs {
    /// The owner of the uploads: `default` if authentication is off.
    #[arg(long, value_parser = owner)]
    owner: Owner,
    /// The policy of the uploads.
    #[arg(long, value_parser = policy)]
    policy: PolicyName,
    /// The token's lifetime, such as 15min or 7d; 1h by default, 30d at most.
    #[arg(long, value_parser = lifetime)]
    expires_in: Option<TimeDelta>,
    /// How many uploads the token can create.
    #[arg(long, value_name = "N")]
    max_uploads: Option<u64>,
    /// The largest file, such as 10MiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// The subject to which its uploads are attached, such as album:42:cover.
    #[arg(long, value_name = "SUBJECT")]
    attach_to: Option<Subject>,
    /// Metadata that is added to each of its uploads; repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// An origin whose pages may use the token as a path prefix (`/t/TOKEN/`); repeatable.
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "clap parses with a Result")]
fn policy(text: &str) -> Result<PolicyName, String> {
    Ok(PolicyName::new(text))
}

fn size(text: &str) -> Result<u64, String> {
    let size: Option<ConfigSize> = text.parse().ok();
    size.map(ConfigSize::bytes).ok_or_else(|| "must be a size such as 10MiB".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Creates, lists or revokes tokens.
pub async fn run(file: Option<&Path>, args: &UploadTokenArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    let db = adapters::database(&config).await?;
    adapters::require_schema(&db).await?;
    let code = match &args.action {
        Action::Create(args) => create(&config, &db, args).await,
        Action::List { owner, json } => list(&db, owner.as_ref(), *json).await,
        Action::Revoke { id, json } => revoke(&db, *id, *json).await,
    };
    db.close().await?;
    code
}

async fn create(config: &Config, db: &Db, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let policies = config.domain_policies();
    let policy = policies
        .get(&args.policy)
        .with_context(|| format!("--policy: there is no policy `{}`", args.policy))?;
    let new = NewUploadToken {
        expires_in: args.expires_in.map(|lifetime| lifetime.num_seconds()),
        max_uploads: args.max_uploads,
        max_size: args.max_size,
        attach_to: args.attach_to.clone(),
        metadata: args.metadata.iter().cloned().collect(),
        cors_origins: args.cors_origins.clone(),
    };
    let sources = (&SystemClock as _, &SystemIds as _);
    let issued = upload_tokens::create(db, sources, (&args.owner, policy), new, None).await?;
    if args.json {
        let mut shown = as_json(&issued.token);
        shown["token"] = issued.text.expose_secret().into();
        print(&shown)?;
    } else {
        // Only the token goes to stdout, so that `$(... upload-token create ...)` works.
        println!("{}", issued.text.expose_secret());
        eprintln!("id {}; the token is not shown again", issued.token.id);
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(db: &Db, owner: Option<&Owner>, json: bool) -> anyhow::Result<ExitCode> {
    let mut tokens = Vec::new();
    let mut filter = UploadTokenFilter { cursor: None, limit: PAGE };
    loop {
        let page = db.upload_tokens().list(owner, &filter).await?;
        tokens.extend(page.items);
        match page.next {
            Some(next) => filter.cursor = Some(next),
            None => break,
        }
    }
    if json {
        print(&Value::Array(tokens.iter().map(as_json).collect()))?;
    } else {
        println!("{}", table(&tokens));
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(db: &Db, id: Uuid, json: bool) -> anyhow::Result<ExitCode> {
    let revoked = db.upload_tokens().revoke(None, UploadTokenId(id), SystemClock.now()).await?;
    if json {
        print(&json!({"id": id, "revoked": revoked}))?;
    } else if revoked {
        println!("revoked {id}");
    }
    if !revoked {
        eprintln!("there is no upload token {id}, or it is already revoked");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn status(token: &UploadToken) -> &'static str {
    if token.revoked_at.is_some() {
        "revoked"
    } else if token.has_expired(SystemClock.now()) {
        "expired"
    } else {
        "live"
    }
}

fn as_json(token: &UploadToken) -> Value {
    json!({
        "id": token.id,
        "owner": token.owner.as_str(),
        "policy": token.policy,
        "status": status(token),
        "uploads": token.uploads,
        "max_uploads": token.max_uploads,
        "max_size": token.max_size,
        "attach_to": token.attach_to.as_ref().map(Subject::as_str),
        "metadata": token.metadata,
        "cors_origins": token.cors_origins,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    })
}

fn table(tokens: &[UploadToken]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["id", "owner", "policy", "status", "expires", "uploads", "attach to"]);
    for token in tokens {
        let max = token.max_uploads.map_or_else(String::new, |max| format!(" of {max}"));
        table.add_row([
            token.id.to_string(),
            token.owner.as_str().to_owned(),
            token.policy.to_string(),
            status(token).to_owned(),
            token.expires_at.format("%Y-%m-%d %H:%M").to_string(),
            format!("{}{max}", token.uploads),
            token.attach_to.as_ref().map_or_else(String::new, ToString::to_string),
        ]);
    }
    table
}
