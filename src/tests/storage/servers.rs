//! The stores that the contract tests use.
//!
//! Without environment variables these are the store in memory and the embedded server. If
//! `TEST_S3_KIND` (minio, seaweedfs, garage, azurite), `TEST_S3_ENDPOINT`, `TEST_S3_REGION`,
//! `TEST_S3_ACCESS_KEY_ID`, `TEST_S3_SECRET_ACCESS_KEY` and `TEST_S3_BUCKET` are set, the real
//! server replaces the embedded one. `TEST_S3_PUBLIC_ENDPOINT` is the same server with another host
//! name. Azurite's account and key are in the variables of the access key.
//!
//! A second server, for tests that use two at once, has the same variables with another prefix:
//! `TEST_S3_SECOND_KIND` and so on. `scripts/with-server seaweedfs azurite` sets both.
//!
//! To add a store: add its kind, and its known capabilities to [`Kind::capabilities`]. The test of
//! the probe fails if they are wrong.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
};
use bytes::Bytes;
#[cfg(feature = "embedded-s3")]
use embedded_s3::{EmbeddedS3, EmbeddedS3Config, Limits};
use secrecy::{ExposeSecret as _, SecretString};
#[cfg(feature = "embedded-s3")]
use tempfile::TempDir;
use upload_coordinator::config::{StoreConfig, StoreKind};
use upload_coordinator::domain::clock::{Clock, SystemClock, Timestamp};
use upload_coordinator::domain::ids::{IdSource as _, SystemIds};
use upload_coordinator::net::http_client;
use upload_coordinator::storage::azure::{AccountKey, Azure, AzureSettings};
use upload_coordinator::storage::capabilities::Capabilities;
use upload_coordinator::storage::memory::MemoryStore;
use upload_coordinator::storage::s3::{CorsRule, S3, S3Credentials, S3Settings, Timeouts};
use upload_coordinator::storage::signer::SignedRequest;
use upload_coordinator::storage::{
    Backend, ObjectStore, PutOptions, Store, StoreError, Written, backend,
};

/// Real servers use the real time.
pub fn now() -> Timestamp {
    SystemClock.now()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Embedded,
    /// The embedded server, with 501 for every condition of a write.
    Unconditional,
    Minio,
    Seaweedfs,
    Garage,
    Azurite,
}

impl Kind {
    fn named(name: &str) -> Self {
        match name {
            "minio" => Self::Minio,
            "seaweedfs" => Self::Seaweedfs,
            "garage" => Self::Garage,
            "azurite" => Self::Azurite,
            other => panic!("TEST_S3_KIND={other} is none of minio, seaweedfs, garage, azurite"),
        }
    }

    /// The known capabilities of the store.
    pub fn capabilities(self) -> Capabilities {
        let all = Capabilities { notifications: None, ..Capabilities::aws() };
        let no_sums = Capabilities { multipart_checksums: Vec::new(), ..all.clone() };
        match self {
            Self::Memory => all,
            Self::Embedded => Capabilities { sse: false, ..all },
            Self::Unconditional => Capabilities {
                write_once: false,
                refuses_if_none_match: true,
                multipart_write_once: false,
                sse: false,
                ..all
            },
            Self::Minio => Capabilities { list_multiparts: false, ..no_sums },
            Self::Seaweedfs => Capabilities { list_order: false, start_after: false, ..all },
            Self::Azurite => Capabilities::azure(),
            Self::Garage => {
                let no_sums = Capabilities { checked_parts: false, ..no_sums };
                Capabilities { write_once: false, multipart_write_once: false, ..no_sums }
            }
        }
    }
}

/// The bucket's CORS rules are shared by all tests on one server. A test that changes or checks
/// them holds this lock.
pub static CORS_TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// An embedded server with its folder.
#[cfg(feature = "embedded-s3")]
type Running = (EmbeddedS3, TempDir);
#[cfg(not(feature = "embedded-s3"))]
type Running = std::convert::Infallible;

/// A store, and a prefix in it that no other test uses.
pub struct Subject {
    pub kind: Kind,
    pub store: Store,
    /// Only for a store with a network connection.
    pub s3: Option<S3>,
    /// The settings of `s3`.
    pub settings: Option<S3Settings>,
    /// Only for Azurite, with its settings and its key.
    pub azure: Option<(Azure, AzureSettings, SecretString)>,
    /// The store in memory.
    memory: Option<Arc<MemoryStore>>,
    prefix: String,
    http: reqwest::Client,
    _server: Option<Running>,
}

impl Subject {
    pub fn memory() -> Self {
        Self::in_memory().1
    }

    fn in_memory() -> (Arc<MemoryStore>, Self) {
        let memory = Arc::new(MemoryStore::new(Arc::new(SystemClock)).with_min_part_size(1));
        let store = memory.clone().store("memory", None).unwrap();
        let subject = Self::over(Kind::Memory, store, None, None, None);
        (memory.clone(), Self { memory: Some(memory), ..subject })
    }

    /// The server that the environment names, or a new embedded server.
    pub async fn server() -> Self {
        match Self::named("TEST_S3").await {
            Some(named) => named,
            None => Self::embedded(Kind::Embedded).await,
        }
    }

    /// [`Self::server`], and the second server if the environment names one.
    pub async fn servers() -> Vec<Self> {
        let second = Self::named("TEST_S3_SECOND").await;
        [Self::server().await].into_iter().chain(second).collect()
    }

    /// The server of the variables with this prefix.
    async fn named(prefix: &str) -> Option<Self> {
        let kind = std::env::var(format!("{prefix}_KIND")).ok()?;
        let variable = |name: &str| {
            let name = format!("{prefix}_{name}");
            std::env::var(&name).unwrap_or_else(|_| panic!("{prefix}_KIND is set, {name} is not"))
        };
        if Kind::named(&kind) == Kind::Azurite {
            let key = SecretString::from(variable("SECRET_ACCESS_KEY"));
            let url = |name: &str| Some(variable(name).parse().unwrap());
            let settings = AzureSettings {
                public_endpoint: url("PUBLIC_ENDPOINT"),
                ..AzureSettings::new(
                    variable("ACCESS_KEY_ID"),
                    AccountKey::parse(&key).unwrap(),
                    variable("BUCKET"),
                    url("ENDPOINT"),
                )
            };
            return Some(Self::connect_azure(settings, key).await.unwrap());
        }
        let credentials = S3Credentials::Static {
            access_key_id: variable("ACCESS_KEY_ID"),
            secret_access_key: variable("SECRET_ACCESS_KEY").into(),
            session_token: None,
        };
        let endpoint = variable("ENDPOINT").parse().unwrap();
        let (region, bucket) = (variable("REGION"), variable("BUCKET"));
        let public = std::env::var(format!("{prefix}_PUBLIC_ENDPOINT")).ok();
        let settings = S3Settings {
            public_endpoint: public.map(|url| url.parse().unwrap()),
            ..S3Settings::new(Some(endpoint), region, bucket, credentials)
        };
        Some(Self::connect(Kind::named(&kind), settings, None).await)
    }

    #[cfg(not(feature = "embedded-s3"))]
    async fn embedded(_: Kind) -> Self {
        panic!("without the feature embedded-s3 these tests need TEST_S3_KIND")
    }

    /// The embedded server that refuses every condition of a write.
    #[cfg(feature = "embedded-s3")]
    pub async fn unconditional() -> Self {
        Self::embedded(Kind::Unconditional).await
    }

    /// A new embedded server, whatever the environment names.
    #[cfg(feature = "embedded-s3")]
    pub async fn embedded_server() -> Self {
        Self::embedded(Kind::Embedded).await
    }

    #[cfg(feature = "embedded-s3")]
    async fn embedded(kind: Kind) -> Self {
        let folder = TempDir::new().unwrap();
        let secret = SecretString::from("embedded-secret-key");
        let server = EmbeddedS3::start(EmbeddedS3Config {
            data_dir: folder.path().to_owned(),
            bind: ([127, 0, 0, 1], 0).into(),
            region: "us-east-1".into(),
            access_key_id: "embedded".into(),
            secret_access_key: secret.clone(),
            buckets: vec!["music".into()],
            host_domain: None,
            limits: Limits::default(),
            refuse_conditions: kind == Kind::Unconditional,
        })
        .await
        .unwrap();
        let credentials = S3Credentials::Static {
            access_key_id: "embedded".into(),
            secret_access_key: secret,
            session_token: None,
        };
        let endpoint = server.url().parse().unwrap();
        let settings = S3Settings {
            // Another host name, so that a signature for the wrong host would be noticed.
            public_endpoint: Some(
                format!("http://localhost:{}", server.addr().port()).parse().unwrap(),
            ),
            ..S3Settings::new(Some(endpoint), "us-east-1", "music", credentials)
        };
        Self::connect(kind, settings, Some((server, folder))).await
    }

    async fn connect(kind: Kind, settings: S3Settings, server: Option<Running>) -> Self {
        let s3 = S3::connect(&settings, &http_client()).await.unwrap();
        s3.create_bucket().await.unwrap();
        let store = s3.clone().into_store("server", kind.capabilities());
        Self::over(kind, store, Some(s3), Some(settings), server)
    }

    async fn connect_azure(settings: AzureSettings, key: SecretString) -> Result<Self, StoreError> {
        let azure = Azure::connect(&settings).unwrap();
        azure.create_bucket().await?;
        let store = azure.clone().into_store("server", Kind::Azurite.capabilities());
        let subject = Self::over(Kind::Azurite, store, None, None, None);
        Ok(Self { azure: Some((azure, settings, key)), ..subject })
    }

    /// Whether the store speaks S3.
    pub fn speaks_s3(&self) -> bool {
        self.kind != Kind::Azurite
    }

    fn over(
        kind: Kind,
        store: Store,
        s3: Option<S3>,
        settings: Option<S3Settings>,
        server: Option<Running>,
    ) -> Self {
        Self {
            kind,
            store,
            s3,
            settings,
            azure: None,
            memory: None,
            prefix: format!("test/{}/", SystemIds.uuid().as_simple()),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _server: server,
        }
    }

    /// The same server with a new bucket. Returns an error if the access key may not create one.
    pub async fn with_own_bucket(&self) -> Result<Self, StoreError> {
        if let Some((_, settings, key)) = &self.azure {
            let container = format!("own-{}", SystemIds.uuid().as_simple());
            let settings = AzureSettings { container, ..settings.clone() };
            return Self::connect_azure(settings, key.clone()).await;
        }
        let settings = S3Settings {
            bucket: format!("own-{}", SystemIds.uuid().as_simple()),
            ..self.settings.clone().unwrap()
        };
        let s3 = S3::connect(&settings, &http_client()).await.unwrap();
        s3.create_bucket().await?;
        let store = s3.clone().into_store("server", self.kind.capabilities());
        Ok(Self::over(self.kind, store, Some(s3), Some(settings), None))
    }

    /// The same store with a new bucket with versioning; `None` if the store does not support
    /// versioning.
    pub async fn with_versions(&self) -> Option<Self> {
        if self.kind == Kind::Memory {
            let (memory, subject) = Self::in_memory();
            memory.keep_versions();
            return Some(subject);
        }
        if !self.speaks_s3() {
            return None; // Azurite has no versioning
        }
        let own = self.with_own_bucket().await.ok()?;
        let versions =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let client = own.s3.as_ref()?.sdk().put_bucket_versioning().bucket(&own.store.bucket);
        client.versioning_configuration(versions).send().await.ok()?;
        Some(own)
    }

    /// The same store with a new bucket that locks new objects for a day; `None` if the store does
    /// not support that.
    pub async fn with_lock(&self) -> Option<Self> {
        let settings = S3Settings {
            bucket: format!("lock-{}", SystemIds.uuid().as_simple()),
            ..self.settings.clone()?
        };
        let s3 = S3::connect(&settings, &http_client()).await.unwrap();
        let (client, bucket) = (s3.sdk(), settings.bucket.as_str());
        let create = client.create_bucket().bucket(bucket).object_lock_enabled_for_bucket(true);
        create.send().await.ok()?;
        let mode = ObjectLockRetentionMode::Governance;
        let retention = DefaultRetention::builder().mode(mode).days(1).build();
        let lock = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(ObjectLockRule::builder().default_retention(retention).build())
            .build();
        let put = client.put_object_lock_configuration().bucket(bucket);
        put.object_lock_configuration(lock).send().await.ok()?;
        let store = s3.clone().into_store("server", self.kind.capabilities());
        Some(Self::over(self.kind, store, Some(s3), Some(settings), None))
    }

    /// The ids of all versions and delete markers of a key.
    pub async fn versions(&self, key: &str) -> Vec<String> {
        if let Some(memory) = &self.memory {
            return memory.versions(key);
        }
        let client = self.s3.as_ref().unwrap().sdk().list_object_versions();
        let page = client.bucket(&self.store.bucket).prefix(key).send().await.unwrap();
        let versions = page.versions().iter().map(|one| (one.key(), one.version_id()));
        let markers = page.delete_markers().iter().map(|one| (one.key(), one.version_id()));
        let ours = versions.chain(markers).filter(|(listed, _)| *listed == Some(key));
        ours.filter_map(|(_, id)| id.map(str::to_owned)).collect()
    }

    /// The host and the port of the server.
    pub fn authority(&self) -> String {
        let azure = self.azure.as_ref().and_then(|(_, settings, _)| settings.endpoint.clone());
        let s3 = self.settings.as_ref().and_then(|settings| settings.endpoint.clone());
        let url = azure.or(s3).unwrap();
        format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
    }

    /// The same bucket through a proxy.
    pub async fn through(
        &self,
        proxy: SocketAddr,
        max_attempts: u32,
        timeouts: Timeouts,
        capabilities: Capabilities,
    ) -> Store {
        let endpoint = Some(format!("http://{proxy}").parse().unwrap());
        if let Some((_, settings, _)) = self.azure.clone() {
            let settings = AzureSettings { endpoint, max_attempts, timeouts, ..settings };
            return Azure::connect(&settings).unwrap().into_store("default", capabilities);
        }
        let settings = self.settings.clone().unwrap();
        let settings = S3Settings { endpoint, max_attempts, timeouts, ..settings };
        let s3 = S3::connect(&settings, &http_client()).await.unwrap();
        s3.into_store("default", capabilities)
    }

    /// The store as the service opens it; `None` if it speaks S3.
    pub async fn backend(&self) -> Option<Box<dyn Backend>> {
        let (_, settings, key) = self.azure.clone()?;
        let url = |url: Option<url::Url>| url.map(String::from);
        let config = StoreConfig {
            kind: StoreKind::Azure,
            endpoint: url(settings.endpoint),
            public_endpoint: url(settings.public_endpoint),
            bucket: Some(settings.container),
            account: Some(settings.account),
            access_key: Some(key),
            ..StoreConfig::default()
        };
        Some(backend::open("server", &config, &http_client()).await.unwrap())
    }

    /// Replaces the CORS rules of the bucket, or of the account.
    pub async fn put_cors(&self, rules: &[CorsRule]) -> Result<(), StoreError> {
        match (&self.azure, &self.s3) {
            (Some((azure, ..)), _) => azure.put_cors(rules).await,
            (None, Some(s3)) => s3.put_cors(rules).await,
            (None, None) => panic!("the store in memory has no CORS rules"),
        }
    }

    /// The CORS rules of the bucket, or of the account.
    pub async fn get_cors(&self) -> Result<Vec<CorsRule>, StoreError> {
        match (&self.azure, &self.s3) {
            (Some((azure, ..)), _) => azure.get_cors().await,
            (None, Some(s3)) => s3.get_cors().await,
            (None, None) => panic!("the store in memory has no CORS rules"),
        }
    }

    /// The configuration of a service that uses this store: keys below `storage.default.`.
    pub fn configuration(&self) -> Vec<(&'static str, String)> {
        let url = |url: Option<url::Url>| url.map(String::from).unwrap_or_default();
        if let Some((_, settings, key)) = self.azure.clone() {
            return vec![
                ("endpoint", url(settings.endpoint)),
                ("public_endpoint", url(settings.public_endpoint)),
                ("bucket", settings.container),
                ("account", settings.account),
                ("access_key", key.expose_secret().to_owned()),
                ("kind", "azure".to_owned()),
            ];
        }
        let settings = self.settings.clone().unwrap();
        let S3Credentials::Static { access_key_id, secret_access_key, .. } = settings.credentials
        else {
            panic!("tests have keys of their own");
        };
        vec![
            ("endpoint", url(settings.endpoint)),
            ("public_endpoint", url(settings.public_endpoint)),
            ("region", settings.region),
            ("bucket", settings.bucket),
            ("access_key_id", access_key_id),
            ("secret_access_key", secret_access_key.expose_secret().to_owned()),
        ]
    }

    pub fn objects(&self) -> &dyn ObjectStore {
        &*self.store.objects
    }

    pub fn capabilities(&self) -> &Capabilities {
        &self.store.capabilities
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub async fn put(&self, key: &str, body: &'static [u8]) -> Written {
        let options = PutOptions::default();
        self.objects().put(key, Bytes::from_static(body), &options).await.unwrap()
    }

    /// The object's bytes; `None` if there is no object.
    pub async fn bytes(&self, key: &str) -> Option<Bytes> {
        let meta = self.objects().head(key).await.unwrap()?;
        Some(self.objects().read(key, 0..meta.size, &meta.etag).await.unwrap())
    }

    /// Sends a signed request as a client would.
    pub async fn send(&self, signed: &SignedRequest, body: &'static [u8]) -> reqwest::Response {
        let method = signed.method.parse().unwrap();
        let mut request = self.http.request(method, &signed.url).body(body);
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Deletes what the test wrote, for servers that continue after the test.
    pub async fn clean_up(&self) {
        let mut request = upload_coordinator::storage::ListRequest {
            prefix: self.prefix.clone(),
            ..Default::default()
        };
        loop {
            let page = self.objects().list(&request).await.unwrap();
            for object in &page.objects {
                self.objects().delete(&object.key).await.unwrap();
            }
            match page.next {
                Some(token) => request.token = Some(token),
                None => return,
            }
        }
    }
}
