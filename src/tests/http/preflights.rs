//! Preflight requests of every family of routes.

use std::time::Duration;

use chrono::TimeDelta;
use upload_coordinator::config::DialectsConfig;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::PolicyName;
use upload_coordinator::http::SecurityConfig;
use upload_coordinator::http::dialects::{Dialect, family};

use super::kit::{Server, fetch};

const ORIGIN: &str = "https://app.example.com";

#[tokio::test]
async fn a_header_that_nobody_knows_makes_no_preflight_fail_and_traces_are_allowed() {
    let dialects: Vec<_> = DialectsConfig::default()
        .all()
        .into_iter()
        .map(|(name, _)| {
            let (policy, url_ttl) = (PolicyName::default(), TimeDelta::minutes(15));
            let dialect = Dialect { policy, url_ttl, write_once: false };
            family(name, dialect).unwrap_or_else(|| panic!("{name} has no family"))
        })
        .collect();
    let prefixes: Vec<_> = dialects.iter().map(|family| family.prefix()).collect();
    let protect = |_: &_| SecurityConfig {
        dialects: dialects.clone(),
        cors_origins: vec![ORIGIN.to_owned()],
        ..SecurityConfig::default()
    };
    let server = Server::build(Duration::from_secs(20), Quota::default(), protect).await;
    let paths = prefixes.into_iter().chain(["/api/uploads", "/api/uploads/x", "/up/x", "/no/path"]);
    for path in paths {
        for method in ["POST", "PUT", "GET", "DELETE", "PATCH", "HEAD"] {
            let requested =
                "traceparent,tracestate,x-unknown,authorization,content-type,x-request-id";
            let preflight = server
                .request("OPTIONS", path)
                .header("origin", ORIGIN)
                .header("access-control-request-method", method)
                .header("access-control-request-headers", requested);
            let found = fetch(preflight).await;
            assert_eq!(found.status, 200, "{method} {path}: {found:?}");
            assert_eq!(found.header("access-control-allow-origin"), ORIGIN, "{path}");
            let allowed = found.header("access-control-allow-headers").to_ascii_lowercase();
            for header in requested.split(',').filter(|header| *header != "x-unknown") {
                assert!(allowed.contains(header), "{path}: {header} is not in {allowed}");
            }
            assert!(!allowed.contains("x-unknown"), "{path}: {allowed}");
            assert!(found.header("access-control-allow-methods").contains(method), "{path}");
        }
    }
    server.stop().await;
}
