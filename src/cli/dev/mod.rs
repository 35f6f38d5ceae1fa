//! `dev`: everything on one machine, with nothing installed.

mod data_lock;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use self::data_lock::DataLock;
use super::adapters::{self, Adapters};
use super::patience::Patience;
use super::service::Service;
use crate::config::Config;
use crate::domain::inspection::MEDIA;
use crate::domain::policy::Overwrite;
use crate::storage::s3::DEFAULT_REGION;

/// The pages that may call the API of `dev`, in addition to `server.cors_origins`: pages of this
/// machine, on any port. The embedded store allows every origin.
const LOOPBACK_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// The environment variable with the address of a virus scanner. If it is set, the scanner examines
/// the files of tracks.
const CLAMD_ADDRESS: &str = "CLAMD_ADDRESS";

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The folder for the database and the objects.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// Where the service listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// Where the S3 server listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub s3_bind: SocketAddr,
    /// Write the addresses and keys of everything to this file, as JSON, once the service is
    /// ready.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

impl Default for DevArgs {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            s3_bind: SocketAddr::from(([127, 0, 0, 1], 9000)),
            ready_file: None,
        }
    }
}

/// Runs the service, its database and its store.
pub async fn run(file: Option<&Path>, args: &DevArgs) -> anyhow::Result<ExitCode> {
    let database_url = format!("sqlite://{}", args.data.join("upload-coordinator.db").display());
    let s3_data = args.data.join("s3").display().to_string();
    let (bind, s3_bind) = (args.bind.to_string(), args.s3_bind.to_string());
    let mut overrides = vec![
        ("server.bind", &*bind),
        ("database.url", &*database_url),
        ("storage.default.kind", "embedded"),
        ("storage.default.endpoint", ""),
        ("storage.default.bucket", "uploads"),
        ("storage.default.region", DEFAULT_REGION),
        ("storage.default.data_dir", &*s3_data),
        ("storage.default.bind", &*s3_bind),
    ];
    let clamd = std::env::var(CLAMD_ADDRESS).ok().filter(|address| !address.is_empty());
    if let Some(address) = &clamd {
        overrides.push(("inspectors.clamav.kind", "clamd"));
        overrides.push(("inspectors.clamav.address", address));
    }
    let mut config = Config::load_with(file, &overrides)?;
    // The demo page shows the facts of media files. A policy with `overwrite = "accept"` can't have
    // inspectors.
    if config.policies.get("tracks").is_some_and(|it| it.overwrite == Overwrite::Reject) {
        config.inspect("tracks", MEDIA)?;
    }
    if clamd.is_some() {
        config.inspect("tracks", "clamav").context(CLAMD_ADDRESS)?;
    }
    config.server.require_marker.get_or_insert(false);
    config.dialects.enable_auto();
    config.server.cors_origins.extend(LOOPBACK_ORIGINS.map(str::to_owned));
    let _log = super::start_log(&config)?;
    let _lock = DataLock::acquire(&args.data)?;
    if let Err(error) = config.auth.check_bind(args.bind) {
        tracing::warn!(%error, "everyone on the network can call every route");
    }
    let db = adapters::database(&config).await?;
    db.migrate_up().await?;
    adapters::require_schema(&db).await?;
    let adapters = Adapters::connect(&config, db, &Patience::none()).await?;
    let ready = Ready::of(&adapters, &database_url)?;
    let service = Service::start(&config, adapters, &Patience::none(), true).await?;
    let ready = Ready { url: format!("http://{}", service.addr()), ..ready };
    println!("{}", ready.welcome());
    if let Some(path) = &args.ready_file {
        ready.write(path).with_context(|| format!("--ready-file {}", path.display()))?;
    }
    service.until_stopped().await?;
    Ok(ExitCode::SUCCESS)
}

/// The addresses and keys of everything that runs.
#[derive(serde::Serialize)]
struct Ready {
    url: String,
    s3_url: String,
    bucket: String,
    region: String,
    access_key_id: String,
    secret_access_key: String,
    database_url: String,
}

impl Ready {
    fn of(adapters: &Adapters, database_url: &str) -> anyhow::Result<Self> {
        let server = adapters.embedded.first().context("storage.default is not embedded")?;
        let (access_key_id, secret_access_key) = server.keys();
        Ok(Self {
            url: String::new(),
            s3_url: server.url().to_owned(),
            bucket: server.bucket().to_owned(),
            region: server.region().to_owned(),
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.to_owned(),
            database_url: database_url.to_owned(),
        })
    }

    /// Writes to a temporary file and renames it, so that a reader never sees an incomplete file.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        Ok(std::fs::rename(&fresh, path)?)
    }

    fn welcome(&self) -> String {
        let Self { url, s3_url, .. } = self;
        format!(
            r#"
upload-coordinator  {url}
A page to try       {url}/demo
API document        {url}/api/schema/swagger-ui
S3                  {s3_url}

Try it, in another terminal:

  printf '\377\373\220\144%0413d' 0 > song.mp3        # or a real one of yours
  TRACK=$(curl -s {url}/api/tracks -H 'Content-Type: application/json' \
    -d '{{"title": "A song", "artist_name": "Someone"}}' | cut -d '"' -f 4)
  PUT=$(curl -s -X POST {url}/api/tracks/$TRACK/presigned-url | cut -d '"' -f 4)
  curl -T song.mp3 "$PUT"
  curl -s -X POST '{url}/api/admin/reconciliations?wait=true' \
    -H 'Content-Type: application/json' -d '{{"mode": "incremental"}}'
  curl -s {url}/api/tracks/$TRACK
  curl -sL {url}/api/tracks/$TRACK/file | cmp - song.mp3 && echo the same bytes
"#
        )
    }
}
