//! API keys over HTTP and on the command line.

use chrono::TimeDelta;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use upload_coordinator::auth::api_keys::{NewApiKey, create, revoke};
use upload_coordinator::auth::{ApiKeyVerifier, Authenticator, owner};
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::{Scope, Scopes};
use upload_coordinator::http::SecurityConfig;

use super::kit::{Response, Server, fetch};
use crate::support::database::TestDatabase;
use crate::support::live;
use crate::support::wait::wait_for;

async fn get(server: &Server, path: &str, token: &str) -> Response {
    fetch(server.request("GET", path).header("authorization", token)).await
}

/// Asserts a 401 with a challenge.
#[track_caller]
fn is_unknown(found: &Response) {
    found.is_problem(401, "unauthorized");
    assert!(found.header("www-authenticate").starts_with("Bearer realm="), "{found:?}");
}

#[tokio::test]
async fn a_key_allows_its_scopes_until_it_expires_or_is_revoked() {
    let server = Server::keyed().await;
    let key = server.key("ann", Scopes::known(["tracks:read"])).await;
    assert_eq!(get(&server, "/api/tracks", &key).await.status, 200);
    assert_eq!(get(&server, "/api/tracks", &key.replace("Bearer", "bEARER")).await.status, 200);
    let short = get(&server, "/api/uploads", &key).await;
    short.is_problem(403, "forbidden");
    assert_eq!(short.json()["scope"], "uploads:read");
    assert!(short.header("www-authenticate").contains("insufficient_scope"));

    is_unknown(&server.get("/api/tracks").await);
    let last = if key.ends_with('0') { "1" } else { "0" };
    let other_secret = format!("{}{last}", &key[..key.len() - 1]);
    let other_id = key.replacen(&key[11..20], "000000000", 1);
    for token in [&other_secret, &other_id, "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "é"] {
        let found = get(&server, "/api/tracks", token).await;
        is_unknown(&found);
        assert!(!found.text.contains(&key[40..]), "{found:?}");
    }
    let id = key["Bearer uck_".len()..].split('_').next().unwrap().parse().unwrap();
    assert!(revoke(&server.app.db, &SystemClock, id).await.unwrap());
    let revoked = get(&server, "/api/tracks", &key).await;
    is_unknown(&revoked);
    assert!(revoked.header("www-authenticate").contains("invalid_token"));
    assert!(!revoke(&server.app.db, &SystemClock, id).await.unwrap());

    let ann = owner("ann").unwrap();
    let expires_in = Some(TimeDelta::zero());
    let new = NewApiKey { name: "n".into(), owner: ann, scopes: Scopes::all(), expires_in };
    let (_, text) = create(&server.app.db, &SystemClock, &SystemIds, new).await.unwrap();
    let expired = format!("Bearer {}", text.expose_secret());
    let refused = wait_for("the key's expiry", async || {
        Some(get(&server, "/api/tracks", &expired).await).filter(|found| found.status == 401)
    });
    is_unknown(&refused.await);
    server.stop().await;
}

#[tokio::test]
async fn public_routes_need_no_token() {
    let server = Server::keyed().await;
    for path in ["/healthz", "/readyz", "/api/schema", "/api/schema/swagger-ui"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    server.get("/nowhere").await.is_problem(404, "not-found");
    server.stop().await;
}

#[tokio::test]
async fn a_cached_key_needs_no_query_and_its_use_is_recorded_once() {
    let minute = std::time::Duration::from_mins(1);
    let server = Server::build(std::time::Duration::from_secs(20), Quota::default(), |app| {
        let keys = ApiKeyVerifier::new(app.db.clone(), app.clock.clone(), minute);
        let auth = Authenticator::new(Some(keys), None).into();
        SecurityConfig { auth, ..SecurityConfig::default() }
    })
    .await;
    let key = server.key("ann", Scopes::known(["tracks:read"])).await;
    assert_eq!(get(&server, "/api/tracks", &key).await.status, 200);
    let id = key["Bearer uck_".len()..].split('_').next().unwrap().parse().unwrap();
    let used = async {
        loop {
            let stored = server.app.db.api_keys().find(id).await.unwrap().unwrap();
            if let Some(at) = stored.last_used_at {
                return at;
            }
            tokio::task::yield_now().await;
        }
    };
    let first = tokio::time::timeout(minute, used).await.unwrap();
    // Revoked only in the database: the cache accepts the key until its entry expires.
    revoke(&server.app.db, &SystemClock, id).await.unwrap();
    assert_eq!(get(&server, "/api/tracks", &key).await.status, 200);
    let stored = server.app.db.api_keys().find(id).await.unwrap().unwrap();
    assert_eq!(stored.last_used_at, Some(first));
    server.stop().await;
}

#[tokio::test]
async fn keys_are_created_listed_and_revoked_on_the_command_line() {
    let database = TestDatabase::create().await;
    let settings = [("database.url".to_owned(), database.url.clone())];
    let run = async |arguments: &[&str]| {
        let output = live::run(arguments, &settings).await;
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let early = run(&["token", "list"]).await;
    assert_eq!(early.0, Some(1), "before the migrations");
    database.migrated().await;
    let create = [
        "token",
        "create",
        "--owner",
        "ann",
        "--scope",
        "tracks:read",
        "--scope",
        "admin",
        "--expires-in",
        "90d",
        "--name",
        "for CI",
        "--json",
    ];
    let (code, made) = run(&create).await;
    assert_eq!(code, Some(0));
    let made: Value = serde_json::from_str(&made).unwrap();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(token.starts_with("uck_") && token.len() == 4 + 32 + 1 + 64, "256 bits in hex");

    let (_, listed) = run(&["token", "list", "--json"]).await;
    assert!(!listed.contains(&token[37..]), "secrets are not shown again");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["scopes"], serde_json::json!(["tracks:read", "admin"]));
    assert_eq!((&listed[0]["owner"], &listed[0]["name"]), (&"ann".into(), &"for CI".into()));
    let (_, table) = run(&["token", "list", "--owner", "ann"]).await;
    assert!(table.contains(id) && table.contains("live"), "{table}");
    assert!(!run(&["token", "list", "--owner", "bob"]).await.1.contains(id));

    assert_eq!(run(&["token", "revoke", id]).await.0, Some(0));
    assert_eq!(run(&["token", "revoke", id]).await.0, Some(1));
    assert!(run(&["token", "list"]).await.1.contains("revoked"));
    for bad in [
        &["token", "create", "--owner", "ann"][..],
        &["token", "create", "--owner", "", "--scope", "admin"],
        &["token", "create", "--owner", "ann", "--scope", "everything"],
        &["token", "create", "--owner", "ann", "--scope", "admin", "--expires-in", "0s"],
    ] {
        assert_eq!(run(bad).await.0, Some(2), "{bad:?}");
    }
    let stored = database.connect().await.api_keys().find(id.parse().unwrap()).await;
    let stored = stored.unwrap().unwrap();
    assert!(!stored.hash.to_hex().contains(&token[37..]) && stored.scopes.has(Scope::Admin));
}

#[tokio::test]
async fn serve_and_config_check_refuse_a_network_without_authentication() {
    let settings = |more: &[(&str, &str)]| -> Vec<(String, String)> {
        let some = [("server.bind", "0.0.0.0:0"), ("storage.default.bucket", "uploads")];
        some.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    for command in [&["serve"][..], &["config", "check"]] {
        let refused = live::run(command, &settings(&[])).await;
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && error.contains("auth.mode"), "{command:?}: {error}");
        assert!(error.contains("auth.allow_anonymous_network"), "{error}");
    }
    // With explicit permission, the start continues until the next error.
    let bad = ("database.url", "postgres://nobody@127.0.0.1:1/none");
    let allowed = settings(&[("auth.allow_anonymous_network", "true"), bad]);
    let went_on = live::run(&["serve"], &allowed).await;
    let said = String::from_utf8_lossy(&went_on.stderr).into_owned();
    assert!(said.contains("database.url") && !said.contains("auth.mode"), "{said}");
}
