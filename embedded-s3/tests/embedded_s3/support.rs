//! A separate server for each test, a client for it, and raw requests.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation,
};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use embedded_s3::{EmbeddedS3, EmbeddedS3Config, Limits};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tempfile::TempDir;

pub const BUCKET: &str = "uploads";
pub const REGION: &str = "eu-test-1";
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub const SECRET_KEY: &str = "a-secret-for-tests";
pub const MIB: usize = 1024 * 1024;

pub struct TestServer {
    pub server: EmbeddedS3,
    pub client: Client,
    pub http: reqwest::Client,
    pub dir: TempDir,
}

pub fn config(dir: &Path) -> EmbeddedS3Config {
    EmbeddedS3Config {
        data_dir: dir.to_owned(),
        bind: "127.0.0.1:0".parse().unwrap(),
        region: REGION.to_owned(),
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: SECRET_KEY.into(),
        buckets: vec![BUCKET.to_owned()],
        host_domain: None,
        limits: Limits::default(),
        refuse_conditions: false,
    }
}

pub fn client_config(url: &str, secret: &str) -> Builder {
    Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
}

/// A client that sends no checksum unless a test sets one.
pub fn client(url: &str) -> Client {
    let plain = RequestChecksumCalculation::WhenRequired;
    let config = client_config(url, SECRET_KEY).request_checksum_calculation(plain);
    Client::from_conf(config.build())
}

/// The SDK with its defaults: it adds a CRC32 to every request.
pub fn default_client(url: &str) -> Client {
    Client::from_conf(client_config(url, SECRET_KEY).build())
}

pub async fn start() -> TestServer {
    start_in(tempfile::tempdir().unwrap()).await
}

pub async fn start_in(dir: TempDir) -> TestServer {
    let server = EmbeddedS3::start(config(dir.path())).await.unwrap();
    let client = client(&server.url());
    // Each request has its own connection, because a refused body may end the connection.
    let http = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    TestServer { server, client, http, dir }
}

pub fn for_a_minute() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_mins(1)).unwrap()
}

impl TestServer {
    pub async fn put(&self, key: &str, body: &'static [u8]) -> String {
        let put = self.client.put_object().bucket(BUCKET).key(key);
        put.body(ByteStream::from_static(body)).send().await.unwrap().e_tag.unwrap()
    }

    pub async fn read(&self, key: &str) -> Option<Vec<u8>> {
        match self.client.get_object().bucket(BUCKET).key(key).send().await {
            Ok(object) => Some(object.body.collect().await.unwrap().to_vec()),
            Err(error) => {
                assert_eq!(code_of(&error), "NoSuchKey");
                None
            }
        }
    }

    pub async fn presigned_put(&self, key: &str) -> PresignedRequest {
        let put = self.client.put_object().bucket(BUCKET).key(key);
        put.presigned(for_a_minute()).await.unwrap()
    }

    /// Sends a presigned request with its own headers and with additional headers of the test.
    pub async fn send(
        &self,
        request: &PresignedRequest,
        more: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> TestResponse {
        let method = request.method().parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in request.headers().chain(more.iter().copied()) {
            headers
                .insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let sent = self.http.request(method, request.uri()).headers(headers).body(body.into());
        TestResponse::of(sent.send().await.unwrap()).await
    }

    /// The numbers of blobs and of unfinished files in the data folder.
    pub fn files(&self) -> (usize, usize) {
        count_files(self.dir.path())
    }
}

pub fn count_files(dir: &Path) -> (usize, usize) {
    let shards = std::fs::read_dir(dir.join("blobs")).unwrap();
    (shards.map(|shard| count_blobs(&shard.unwrap().path())).sum(), count_blobs(&dir.join("tmp")))
}

/// The number of files in a folder that are not metadata.
pub fn count_blobs(dir: &Path) -> usize {
    let paths = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_none_or(|end| end != "json")).count()
}

#[derive(Debug)]
pub struct TestResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl TestResponse {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        Self { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    pub fn code(&self) -> &str {
        let code = self
            .body
            .split_once("<Code>")
            .and_then(|(_, remaining)| remaining.split_once("</Code>"));
        code.map_or("", |(code, _)| code)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.body);
    }
}

/// The S3 error code of a refusal.
#[track_caller]
pub fn code_of<E, R>(error: &aws_sdk_s3::error::SdkError<E, R>) -> String
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::fmt::Debug,
    R: std::fmt::Debug,
{
    let service = error.as_service_error().unwrap_or_else(|| panic!("no response: {error:?}"));
    service.code().unwrap_or_default().to_owned()
}
