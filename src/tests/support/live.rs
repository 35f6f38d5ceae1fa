//! The real binary as a separate process: `dev` with its embedded store, or `serve` with the
//! servers from `TEST_S3_ENDPOINT` and `TEST_POSTGRES_URL`.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use upload_coordinator::domain::IdSource as _;
use upload_coordinator::domain::ids::SystemIds;

use super::database::TestDatabase;
use super::wait::wait_for_at_most;

/// The time limit of a start or an end of the process, for a debug build on a slow machine.
const START: Duration = Duration::from_mins(1);

/// A service, and the settings to start it again.
pub struct Live {
    pub url: String,
    pub http: Client,
    process: Child,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    ready_file: PathBuf,
    _database: Option<TestDatabase>,
    folder: TempDir,
}

impl Live {
    /// A service without schedules.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A service with a changed configuration: full keys and their values.
    pub async fn with(changes: &[(&str, &str)]) -> Self {
        match std::env::var("TEST_S3_ENDPOINT") {
            Ok(_) => Self::serving(&external_store(), changes).await,
            Err(_) => Self::launch(None, changes).await,
        }
    }

    /// Starts `dev`, which needs no other servers.
    pub async fn dev() -> Self {
        Self::launch(None, &[]).await
    }

    /// `dev` with a changed configuration: full keys and their values.
    pub async fn dev_with(changes: &[(&str, &str)]) -> Self {
        Self::launch(None, changes).await
    }

    /// The embedded store of `dev`, as keys below `storage.default.` for another service.
    pub fn embedded_store(&self) -> Vec<(&'static str, String)> {
        let ready = std::fs::read(&self.ready_file).unwrap();
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        let same = ["bucket", "region", "access_key_id", "secret_access_key"];
        let mut store = same.map(|key| (key, text(&ready, key))).to_vec();
        store.push(("endpoint", text(&ready, "s3_url")));
        store
    }

    /// Starts `dev` with its data on a disk of this size in MiB. `None` if this machine can't mount
    /// one.
    pub async fn dev_on_small_disk(mebibytes: u32) -> Option<Self> {
        let mut mounts = Command::new("unshare");
        mounts.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]);
        if !mounts.status().await.is_ok_and(|status| status.success()) {
            return None;
        }
        let disk = Some(mebibytes);
        let live = Self::spawn(disk, None, &[("telemetry.log", "warn")]).await;
        live.until_ready().await;
        Some(live)
    }

    /// The path by which the test reaches a folder of the process. The process may have its own
    /// mounts, which the test does not see at the usual path.
    pub fn seen_by_process(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.process.id().unwrap());
        Path::new(&root).join(path.strip_prefix("/").unwrap())
    }

    /// The data folder of `dev`.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `serve` with a store of this test: keys below `storage.default.` and their values.
    /// `database.url` may be one of the changed keys.
    pub async fn serving(store: &[(&str, String)], changes: &[(&str, &str)]) -> Self {
        Self::launch(Some(store), changes).await
    }

    /// Like [`Self::serving`], without waiting until it is ready.
    pub async fn starting(store: &[(&str, String)], changes: &[(&str, &str)]) -> Self {
        Self::spawn(None, Some(store), changes).await
    }

    async fn launch(store: Option<&[(&str, String)]>, changes: &[(&str, &str)]) -> Self {
        let live = Self::spawn(None, store, changes).await;
        live.until_ready().await;
        live.store_secrets().iter().for_each(|secret| super::log::secret(secret));
        live
    }

    async fn spawn(
        disk: Option<u32>,
        store: Option<&[(&str, String)]>,
        changes: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready_file = folder.path().join("ready.json");
        let prefix = format!("t{}/", SystemIds.uuid().as_simple());
        let mut settings = vec![
            ("policies.tracks.prefix".to_owned(), prefix),
            ("reconcile.schedule".to_owned(), "off".to_owned()),
            ("reconcile.audit_schedule".to_owned(), "off".to_owned()),
            ("reconcile.run_at_start".to_owned(), "false".to_owned()),
            ("reconcile.lease".to_owned(), "1s".to_owned()),
        ];
        let mut database = None;
        let bind = changes.iter().find(|(key, _)| *key == "server.bind");
        let address = match bind {
            Some((_, address)) => (*address).to_owned(),
            None => format!("127.0.0.1:{}", free_port()),
        };
        let arguments = if let Some(store) = store {
            let test_database = TestDatabase::create().await;
            settings.push(("server.bind".to_owned(), address.clone()));
            settings.push(("database.url".to_owned(), test_database.url.clone()));
            for (key, value) in store {
                settings.push((format!("storage.default.{key}"), value.clone()));
            }
            database = Some(test_database);
            vec!["serve".to_owned(), "--migrate".to_owned()]
        } else {
            let data = folder.path().join("data").display().to_string();
            let s3_port = free_port();
            let s3 = format!("127.0.0.1:{s3_port}");
            // Clients use another host name than the service.
            let public = format!("http://localhost:{s3_port}");
            settings.push(("storage.default.public_endpoint".to_owned(), public));
            let ready = ready_file.display().to_string();
            ["dev", "--data", &data, "--bind", &address, "--s3-bind", &s3, "--ready-file", &ready]
                .map(str::to_owned)
                .to_vec()
        };
        settings.extend(changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let environment = environment(&settings);
        let data = folder.path().join("data");
        let command = command(disk.map(|mebibytes| (mebibytes, data.as_path())));
        let process = spawn(command, &arguments, &environment, &folder.path().join("log"));
        Self {
            url: format!("http://{address}"),
            http: Client::builder().no_proxy().build().unwrap(),
            process,
            environment,
            arguments,
            ready_file,
            _database: database,
            folder,
        }
    }

    pub async fn until_ready(&self) {
        wait_for_at_most(START, &format!("readiness of {}", self.log()), async || {
            let response = self.http.get(format!("{}/readyz", self.url)).send().await;
            response.is_ok_and(|response| response.status().is_success()).then_some(())
        })
        .await;
    }

    fn log(&self) -> String {
        format!("{:?} in {}", self.arguments, self.folder.path().display())
    }

    /// The complete log, if the test has set `telemetry.log`.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The secret keys of the service's stores.
    pub fn store_secrets(&self) -> Vec<String> {
        let is_secret =
            |name: &str| name.ends_with("SECRET_ACCESS_KEY") || name.ends_with("__ACCESS_KEY");
        let configured = self.environment.iter().filter(|(name, _)| is_secret(name));
        let configured: Vec<_> = configured.map(|(_, secret)| secret.clone()).collect();
        if !configured.is_empty() {
            return configured;
        }
        if let Ok(secret) = std::env::var("TEST_S3_SECRET_ACCESS_KEY") {
            return vec![secret];
        }
        let ready = std::fs::read(&self.ready_file).unwrap();
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        vec![text(&ready, "secret_access_key")]
    }

    /// Another command of the binary with the configuration of this service and with changes: full
    /// keys and their values. The service must be `serve`.
    pub fn command(&self, arguments: &[&str], changes: &[(&str, &str)]) -> Command {
        let changes: Vec<_> =
            changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut command = command(None);
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .envs(environment(&changes))
            .env("UPLOAD_COORDINATOR__TELEMETRY__LOG", "off")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process.kill().await.unwrap();
        let _ = std::fs::remove_file(&self.ready_file);
    }

    /// Starts the service again on the same data and the same ports.
    pub async fn restart(&mut self) {
        let log = self.folder.path().join("log");
        self.process = spawn(command(None), &self.arguments, &self.environment, &log);
        self.until_ready().await;
    }

    /// Sends SIGTERM and waits. Returns the exit code, which is 0 after a normal shutdown.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal().await;
        self.ended(START).await
    }

    /// Only sends SIGTERM.
    pub async fn signal(&self) {
        let id = self.process.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for the end of the process, and returns its exit code.
    pub async fn ended(&mut self, within: Duration) -> Option<i32> {
        let ended = tokio::time::timeout(within, self.process.wait()).await;
        ended.expect("the process ends in time").unwrap().code()
    }

    /// Sends JSON, and returns the status and the JSON of the response.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request.send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Creates an upload token and sends requests with it: in the path prefix, in a header, and in
    /// places where it is not allowed. Returns the token, so that the test can search for it in
    /// logs.
    pub async fn use_upload_token(&self) -> String {
        let (status, made) = self.post("/api/upload-tokens", json!({"policy": "tracks"})).await;
        assert_eq!(status, 201, "{made}");
        let token = text(&made, "token");
        super::log::secret(&token);
        let body = json!({"filename": "t.mp3", "strategy": "direct"});
        let (status, upload) = self.post(&format!("/t/{token}/api/uploads"), body).await;
        assert_eq!(status, 201, "{upload}");
        let content = text(&upload["request"], "url");
        assert_eq!(content.split('/').nth(2), Some(token.as_str()), "{content}");
        let wrong = token.replace(&token[40..], &"0".repeat(token.len() - 40));
        let encoded = token.replacen("upt_", "%75%70t%5f", 1);
        for path in [
            format!("/t/{token}/api/tracks"),
            format!("/t/{token}/nowhere"),
            format!("/t/{token}/t/{token}/nowhere"),
            format!("/t/{wrong}/api/uploads"),
            format!("/t/{encoded}/api/uploads/{encoded}"),
            format!("/%74/{encoded}/nowhere"),
            format!("/api/uploads/{token}"),
            format!("/api/uploads?token={token}"),
        ] {
            let (status, response) = self.get(&path).await;
            assert!((400..500).contains(&status), "{path}: {status}");
            assert!(!response.to_string().contains(&token), "{path}: {response}");
        }
        let bearer = self.http.get(format!("{}/api/tracks", self.url)).bearer_auth(&token);
        assert_eq!(bearer.send().await.unwrap().status(), 403);
        token
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, None).await
    }

    /// Creates a track and returns its id.
    pub async fn track(&self) -> String {
        let track = json!({"title": "A song", "artist_name": "Someone"});
        let (status, track) = self.post("/api/tracks", track).await;
        assert_eq!(status, 201, "{track}");
        text(&track, "id")
    }

    /// The bytes of a track's file.
    pub async fn file(&self, track: &str) -> Vec<u8> {
        let response = self.http.get(format!("{}/api/tracks/{track}/file", self.url)).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap().to_vec()
    }

    /// A presigned request for a track.
    pub async fn presign(&self, track: &str, body: Value) -> Value {
        let path = format!("/api/tracks/{track}/presigned-url");
        let (status, response) = self.post(&path, body).await;
        assert_eq!(status, 201, "{response}");
        response
    }

    /// Sends bytes by a presigned request, with exactly its headers.
    pub async fn send_bytes(&self, request: &Value, bytes: Vec<u8>) -> Response {
        let method = text(request, "method").parse().unwrap();
        let mut put = self.http.request(method, text(request, "url"));
        for (name, value) in request["headers"].as_object().unwrap() {
            put = put.header(name, value.as_str().unwrap());
        }
        put.body(bytes).send().await.unwrap()
    }

    /// Starts a run and waits for its end.
    pub async fn reconcile(&self, mode: &str) -> Value {
        let path = "/api/admin/reconciliations?wait=true";
        let (status, run) = self.post(path, json!({"mode": mode})).await;
        assert_eq!(status, 200, "{run}");
        run
    }
}

/// The status and the JSON of a response; null if it has no JSON.
pub async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// The text of a field.
pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}")).to_owned()
}

/// The command of the binary. With `disk`, a tmpfs of this size in MiB is mounted on the folder.
/// Only the new process sees this mount.
fn command(disk: Option<(u32, &Path)>) -> Command {
    let binary = env!("CARGO_BIN_EXE_upload-coordinator");
    let Some((mebibytes, folder)) = disk else { return Command::new(binary) };
    std::fs::create_dir_all(folder).unwrap();
    let mount = format!("mount -t tmpfs -o size={mebibytes}m none '{}'", folder.display());
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\""), binary]);
    command
}

/// Starts the process. Its log goes to the file `log` if the test sets the log level. Otherwise it
/// goes to `TEST_LOG_DIR`, or to the standard error of the tests if that is not set.
fn spawn(
    mut command: Command,
    arguments: &[String],
    environment: &[(String, String)],
    log: &Path,
) -> Child {
    const LOG: &str = "UPLOAD_COORDINATOR__TELEMETRY__LOG";
    let has_log_level = environment.iter().any(|(name, _)| name == LOG);
    let (stderr, level): (Stdio, _) = if has_log_level {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        (file.unwrap().into(), "warn")
    } else if let Some(file) = super::log::of_process() {
        (file.into(), "debug")
    } else {
        (Stdio::inherit(), "warn")
    };
    command
        .args(arguments)
        .env(LOG, level)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stderr(stderr)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The store from the environment variables `TEST_S3_*`, with its endpoints for the service and for
/// clients.
fn external_store() -> Vec<(&'static str, String)> {
    let azure = std::env::var("TEST_S3_KIND").is_ok_and(|kind| kind == "azurite");
    if azure {
        let keys = [
            ("endpoint", "TEST_S3_ENDPOINT"),
            ("public_endpoint", "TEST_S3_PUBLIC_ENDPOINT"),
            ("bucket", "TEST_S3_BUCKET"),
            ("account", "TEST_S3_ACCESS_KEY_ID"),
            ("access_key", "TEST_S3_SECRET_ACCESS_KEY"),
        ];
        let keys = keys.map(|(key, variable)| (key, std::env::var(variable).expect(variable)));
        return [("kind", "azure".to_owned())].into_iter().chain(keys).collect();
    }
    let keys = [
        ("endpoint", "TEST_S3_ENDPOINT"),
        ("public_endpoint", "TEST_S3_PUBLIC_ENDPOINT"),
        ("region", "TEST_S3_REGION"),
        ("bucket", "TEST_S3_BUCKET"),
        ("access_key_id", "TEST_S3_ACCESS_KEY_ID"),
        ("secret_access_key", "TEST_S3_SECRET_ACCESS_KEY"),
    ];
    keys.map(|(key, variable)| (key, std::env::var(variable).expect(variable))).into()
}

/// A port that is free now, and that this function has not returned to another test of this
/// process.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Full keys and their values as environment variables.
pub fn environment(settings: &[(String, String)]) -> Vec<(String, String)> {
    let variable =
        |key: &str| format!("UPLOAD_COORDINATOR__{}", key.to_uppercase().replace('.', "__"));
    settings.iter().map(|(key, value)| (variable(key), value.clone())).collect()
}

/// Runs a command to its end. Full keys and their values are its configuration.
pub async fn run(arguments: &[&str], settings: &[(String, String)]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upload-coordinator"));
    command
        .args(arguments)
        .envs(environment(settings))
        .env("UPLOAD_COORDINATOR__TELEMETRY__LOG", "off");
    command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
}
