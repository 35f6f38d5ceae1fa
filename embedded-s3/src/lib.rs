//! A small S3 server, for development, tests and single machines.
//!
//! It stores objects on a local disk and verifies every signature. `s3s` implements the protocol on
//! its own TCP port. Below it are blobs in files and an ordered index in SQLite. The crate does not
//! depend on the service that uses it.
//!
//! | file | content |
//! | --- | --- |
//! | `server.rs`, `timeouts.rs` | the accept loop, limits of connections, orderly shutdown |
//! | `middleware.rs`, `body.rs`, `error_body.rs` | the steps around `s3s` for each request |
//! | `forms.rs`, `form_location.rs` | features of browser forms that `s3s` does not have |
//! | `validation.rs` | refusals that `s3s` does not have (unsigned `x-amz-*` headers, long expiries) |
//! | `cors.rs` | preflights and CORS headers, by the bucket's configuration |
//! | `store.rs` | how a verified file becomes an object |
//! | `blobs.rs`, `spool.rs`, `metadata.rs` | the files |
//! | `recovery.rs`, `rebuild.rs` | make files and index consistent, at a start and after a loss |
//! | `checksum.rs` | S3's flexible checksums: algorithms, values, checksums of multipart objects |
//! | `index/` | the rows; every change of an object is one transaction |
//! | `page.rs` | ordered paging with prefixes, delimiters and tokens |
//! | `error.rs` | every error of the store, and its S3 error code |
//! | `ops/` | one file for each family of operations |
//!
//! Invariants:
//! - **Verify first, then commit.** A row names only blobs that were complete, verified and synced.
//!   A refused request does not change the old object.
//! - **A blob never changes.** Its name is random, and only rows refer to it. So a reader can read
//!   its open file to the end while the object is replaced.
//! - **A start deletes no object.** It removes blobs that the index has marked for removal, and
//!   moves blobs that are not in the index to `quarantine/`.
//!
//! # To add an operation
//! 1. Write `pub(crate) async fn name(store, request) -> S3Result<S3Response<_>>` in the file of
//!    its family in `ops/`, and register it in `ops/mod.rs`.
//! 2. A change of rows is one method in `index/` and one transaction. Call it through
//!    `Store::commit`, so that a client that disconnects cannot interrupt it.
//! 3. A new error is a variant of `error::StoreError` with its S3 code.
//! 4. Test it over the wire in `tests/embedded_s3/`.
//!
//! # Known limits
//! - `s3s` holds the file of a signed form in memory, so a form carries at most 512 MiB.
//! - `s3s` holds one chunk of an `aws-chunked` body in memory; clients send small ones.
//! - A checksum in the query of a presigned URL, instead of a header, is ignored. Several other
//!   stores do the same.
//! - A repeated `CompleteMultipartUpload` returns `NoSuchUpload`.
//! - Versions, tags, ACLs, encryption, storage classes, object lock and lifecycles are not
//!   implemented. A write that asks for one of these is refused with 501.

#![forbid(unsafe_code)]

mod blobs;
mod body;
mod checksum;
mod clock;
mod cors;
mod error;
mod error_body;
mod form_location;
mod forms;
mod index;
mod metadata;
mod middleware;
mod ops;
mod page;
mod rebuild;
mod recovery;
mod server;
mod spool;
mod store;
mod timeouts;
mod validation;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use rebuild::{NotRestored, Rebuilt, rebuild};

/// How long requests in progress may take to finish after [`EmbeddedS3::shutdown`] is called.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// The settings of the server.
#[derive(Clone, Debug)]
pub struct EmbeddedS3Config {
    /// The folder for all data; created if it is missing. Only one server at a time can use it.
    pub data_dir: PathBuf,
    /// The address to listen on; port 0 picks a free port.
    pub bind: SocketAddr,
    /// The region in valid signatures.
    pub region: String,
    /// The only valid access key.
    pub access_key_id: String,
    /// The secret of that key.
    pub secret_access_key: SecretString,
    /// Buckets to create at the start, unless they exist.
    pub buckets: Vec<String>,
    /// The domain, without a port, for addresses such as `bucket.domain`. Path-style addresses
    /// always work.
    pub host_domain: Option<String>,
    /// The limits of connections.
    pub limits: Limits,
    /// Refuse every write with `If-None-Match` or `If-Match` with 501, as some stores do. For
    /// tests.
    pub refuse_conditions: bool,
}

/// The limits of connections. They limit the resources that clients without a signature can use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The number of connections that are served at the same time. More connections wait until one
    /// ends.
    pub max_connections: usize,
    /// How long a client may take to send the headers of its next request.
    pub header_timeout: Duration,
    /// The longest pause in which a client sends no byte of a body, or accepts no byte of a
    /// response.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(1),
        }
    }
}

/// Why the server could not start.
#[derive(Debug, Error)]
pub enum EmbeddedS3Error {
    /// The data folder could not be prepared.
    #[error("cannot prepare the data folder {}", path.display())]
    DataDir {
        /// The folder or file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// Another server uses the same folder.
    #[error("the data folder {} is in use by another server", path.display())]
    DataDirInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The index could not be opened or read.
    #[error("cannot open the index of objects")]
    Index(#[source] sqlx::Error),
    /// The data folder has blobs but no index.
    #[error(
        "the index {} is missing or empty, but its folder contains objects: restore the index from \
        a backup, or rebuild it from the objects",
        path.display()
    )]
    IndexMissing {
        /// The expected path of the index.
        path: PathBuf,
    },
    /// The address is not available.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The configured address.
        addr: SocketAddr,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// A configured bucket has a name that S3 does not allow.
    #[error("`{name}` is not a valid bucket name")]
    BucketName {
        /// The configured name.
        name: String,
    },
}

impl EmbeddedS3Error {
    fn from_store(error: error::StoreError, dir: &Path) -> Self {
        let source = match error {
            error::StoreError::Index(source) => return Self::Index(source),
            error::StoreError::Io(source) => source,
            other => std::io::Error::other(other),
        };
        Self::DataDir { path: dir.to_owned(), source }
    }
}

/// A running server. Dropping it aborts all requests in progress. [`EmbeddedS3::shutdown`] lets
/// them finish. Committed objects survive both, and also a kill.
#[derive(Debug)]
pub struct EmbeddedS3 {
    addr: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl EmbeddedS3 {
    /// Opens the data folder, cleans up after a crash, and starts to serve on the current tokio
    /// runtime.
    pub async fn start(config: EmbeddedS3Config) -> Result<Self, EmbeddedS3Error> {
        for name in &config.buckets {
            if !s3s::path::check_bucket_name(name) {
                return Err(EmbeddedS3Error::BucketName { name: name.clone() });
            }
        }
        let store = store::Store::open(&config).await?;
        let bind_error = |source| EmbeddedS3Error::Bind { addr: config.bind, source };
        let listener = TcpListener::bind(config.bind).await.map_err(bind_error)?;
        let addr = listener.local_addr().map_err(bind_error)?;
        let middleware = middleware::Middleware::new(store, &config);
        let stop = CancellationToken::new();
        let task = tokio::spawn(server::serve(
            listener,
            middleware,
            config.limits,
            stop.clone(),
            SHUTDOWN_GRACE,
        ));
        tracing::info!(address = %addr, buckets = config.buckets.len(), "embedded S3 listens");
        Ok(Self { addr, stop, task: Some(task) })
    }

    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The endpoint for clients on this machine. An unspecified address is replaced by the loopback
    /// address.
    pub fn url(&self) -> String {
        let mut addr = self.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{addr}")
    }

    /// Stops accepting connections, lets requests in progress finish for a limited time, and closes
    /// the index.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::warn!(error = %error, "embedded S3 did not shut down cleanly");
        }
    }
}

impl Drop for EmbeddedS3 {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
