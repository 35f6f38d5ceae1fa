//! The embedded S3 server as a configured store.
//!
//! Without configured access keys it creates its own and stores them in `access.json` beside
//! its data. Only one server uses a folder at a time. A second process, for example
//! `reconcile`, reads the address of the first one from that file and uses it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::config::StoreConfig;
use crate::storage::s3::DEFAULT_REGION;
use embedded_s3::{EmbeddedS3, EmbeddedS3Config, EmbeddedS3Error, Limits};

/// The contents of `access.json`, for other processes of the same user.
#[derive(Clone, Serialize, Deserialize)]
struct Access {
    url: String,
    #[serde(rename = "access_key_id")]
    key_id: String,
    secret_access_key: String,
}

/// The server, which runs in this process or in another process on the same folder.
pub struct EmbeddedServer {
    own: Option<EmbeddedS3>,
    access: Access,
    region: String,
    bucket: String,
}

impl EmbeddedServer {
    /// Starts the server of `storage.<name>`. If another process already serves the folder, uses
    /// that server.
    pub async fn start(name: &str, store: &StoreConfig) -> anyhow::Result<Self> {
        let at = |key: &str| format!("storage.{name}.{key}");
        let file = access_file(&store.data_dir);
        let known = read_access(&file)?;
        let mut access = match (&store.access_key_id, &store.secret_access_key, known) {
            (Some(id), Some(secret), known) => Access {
                url: known.map(|known| known.url).unwrap_or_default(),
                key_id: id.clone(),
                secret_access_key: secret.expose_secret().to_owned(),
            },
            (_, _, Some(known)) => known,
            (_, _, None) => Access {
                url: String::new(),
                key_id: format!("dev{}", random_hex(8)),
                secret_access_key: random_hex(20),
            },
        };
        let region = store.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let bucket = store.bucket(name)?.to_owned();
        let started = EmbeddedS3::start(EmbeddedS3Config {
            data_dir: store.data_dir.clone(),
            bind: store.bind,
            region: region.clone(),
            access_key_id: access.key_id.clone(),
            secret_access_key: SecretString::from(access.secret_access_key.clone()),
            buckets: vec![bucket.clone()],
            host_domain: None,
            limits: Limits::default(),
            refuse_conditions: false,
        })
        .await;
        let own = match started {
            Ok(server) => {
                access.url = server.url();
                write_access(&file, &access).with_context(|| at("data_dir"))?;
                Some(server)
            }
            Err(EmbeddedS3Error::DataDirInUse { .. }) if !access.url.is_empty() => None,
            Err(error @ EmbeddedS3Error::Bind { .. }) => {
                return Err(error).with_context(|| at("bind"));
            }
            Err(error @ EmbeddedS3Error::IndexMissing { .. }) => {
                return Err(error).with_context(|| {
                    format!(
                        "{}: restore the index from a backup, or run `upload-coordinator embedded \
                        rebuild` with the same --config or --data",
                        at("data_dir")
                    )
                });
            }
            Err(error) => return Err(error).with_context(|| at("data_dir")),
        };
        Ok(Self { own, access, region, bucket })
    }

    /// The store's configuration with the address and the keys of this server.
    pub fn reachable(&self, store: &StoreConfig) -> StoreConfig {
        StoreConfig {
            endpoint: Some(self.access.url.clone()),
            region: Some(self.region.clone()),
            bucket: Some(self.bucket.clone()),
            path_style: Some(true),
            access_key_id: Some(self.access.key_id.clone()),
            secret_access_key: Some(SecretString::from(self.access.secret_access_key.clone())),
            session_token: None,
            ..store.clone()
        }
    }

    /// The URL for clients.
    pub fn url(&self) -> &str {
        &self.access.url
    }

    /// The region in signatures.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The access key and its secret, for the ready file of `dev`.
    pub fn keys(&self) -> (&str, &str) {
        (&self.access.key_id, &self.access.secret_access_key)
    }

    /// Stops the server if it runs in this process.
    pub async fn shutdown(self) {
        if let Some(server) = self.own {
            server.shutdown().await;
        }
    }
}

fn access_file(data_dir: &Path) -> PathBuf {
    data_dir.join("access.json")
}

fn read_access(file: &Path) -> anyhow::Result<Option<Access>> {
    match std::fs::read(file) {
        Ok(bytes) => {
            let access = serde_json::from_slice(&bytes);
            access.map(Some).with_context(|| {
                format!("{} is not valid; delete it to create new access keys", file.display())
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// Replaces the file atomically; only its owner can read it.
fn write_access(file: &Path, access: &Access) -> anyhow::Result<()> {
    use std::io::Write as _;
    let fresh = file.with_extension("json.new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut handle = options.open(&fresh)?;
    handle.write_all(&serde_json::to_vec_pretty(access)?)?;
    handle.sync_all()?;
    Ok(std::fs::rename(&fresh, file)?)
}

fn random_hex(bytes: usize) -> String {
    hex::encode((0..bytes).map(|_| rand::random::<u8>()).collect::<Vec<_>>())
}
