//! Traces of the real binary, as a collector receives them.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use actix_web::web::{self, Bytes, Data};
use actix_web::{App as Actix, HttpRequest, HttpResponse, HttpServer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::json;

use crate::support::live::{Live, text};
use crate::support::mp3;

const EVENT_TOKEN: &str = "an-event-token-that-is-secret";

/// The requests that the collector received: path and body.
type Got = Arc<Mutex<Vec<(String, Bytes)>>>;

async fn take(request: HttpRequest, body: Bytes, got: Data<Got>) -> HttpResponse {
    got.lock().unwrap().push((request.path().to_owned(), body));
    HttpResponse::Ok().content_type("application/x-protobuf").finish()
}

fn collector() -> (Got, String) {
    let got = Got::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let data = Data::new(got.clone());
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(16 << 20))
            .default_service(web::to(take))
    });
    tokio::spawn(server.workers(1).listen(listener).unwrap().disable_signals().run());
    (got, format!("http://{address}"))
}

fn value(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test]
async fn each_request_is_a_span_that_continues_its_callers_trace_and_holds_no_secret() {
    let (got, endpoint) = collector();
    let mut live =
        Live::with(&[("telemetry.otlp_endpoint", &endpoint), ("events.token", EVENT_TOKEN)]).await;
    let (trace_id, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let created = live
        .http
        .post(format!("{}/api/tracks", live.url))
        .header("traceparent", format!("00-{trace_id}-{parent}-01"))
        .header("x-request-id", "request-1")
        .json(&json!({"title": "A song", "artist_name": "Someone"}))
        .send();
    assert_eq!(created.await.unwrap().status(), 201);
    let track = live.track().await;
    let request = live.presign(&track, json!({"filename": "a.mp3", "size": 900})).await;
    let url = text(&request, "url");
    assert!(live.send_bytes(&request, mp3(900, 1)).await.status().is_success());
    let query = url.split_once('?').unwrap().1.to_owned();
    assert_eq!(live.get(&format!("/api/tracks?{query}")).await.0, 400);
    assert_eq!(live.get(&format!("/nowhere?{query}")).await.0, 404);
    let events = live.http.post(format!("{}/api/events/s3", live.url)).bearer_auth(EVENT_TOKEN);
    assert_eq!(events.json(&json!({"Records": []})).send().await.unwrap().status(), 204);
    let token = live.use_upload_token().await;
    let mut secrets = live.store_secrets();
    secrets.push(token.rsplit('_').next().unwrap().to_owned());
    // The shutdown sends the spans that were not sent yet.
    assert_eq!(live.terminate().await, Some(0));

    let got = got.lock().unwrap().clone();
    assert!(!got.is_empty() && got.iter().all(|(path, _)| path == "/v1/traces"));
    let mut spans: Vec<Span> = Vec::new();
    for (_, body) in &got {
        let holds = |word: &str| body.windows(word.len()).any(|part| part == word.as_bytes());
        let signature = url.split("X-Amz-Signature=").nth(1).unwrap();
        let signature = signature.split('&').next().unwrap();
        assert!(signature.len() >= 64 && !holds(signature) && !holds("X-Amz-"));
        assert!(!holds(EVENT_TOKEN) && !secrets.iter().any(|secret| holds(secret)));
        let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.unwrap().attributes;
            let name = value(&resource, "service.name");
            assert_eq!(name.as_deref(), Some("upload-coordinator"));
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    assert!(spans.iter().all(|span| span.kind() == SpanKind::Server && span.events.is_empty()));
    let creations = named("POST /api/tracks");
    assert_eq!(creations.len(), 2);
    let (continued, fresh): (Vec<&Span>, Vec<&Span>) =
        creations.into_iter().partition(|span| hex::encode(&span.trace_id) == trace_id);
    assert_eq!(hex::encode(&continued[0].parent_span_id), parent);
    assert!(fresh[0].parent_span_id.is_empty() && fresh[0].trace_id.len() == 16);
    for (name, expected) in [
        ("request.id", "request-1"),
        ("http.request.method", "POST"),
        ("http.route", "/api/tracks"),
        ("url.path", "/api/tracks"),
        ("http.response.status_code", "201"),
        ("enduser.id", "default"),
    ] {
        assert_eq!(value(&continued[0].attributes, name).as_deref(), Some(expected), "{name}");
    }
    let below_prefix = named("POST /api/uploads");
    let path = value(&below_prefix[0].attributes, "url.path");
    assert_eq!(path.as_deref(), Some("/t/[redacted]/api/uploads"));
    let status = |span: &Span| value(&span.attributes, "http.response.status_code");
    assert_eq!(status(named("GET /api/tracks")[0]).as_deref(), Some("400"));
    assert!(spans.iter().all(|span| span.end_time_unix_nano >= span.start_time_unix_nano));
}

#[tokio::test]
async fn without_a_collector_the_service_works_as_usual() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let mut live = Live::with(&[
        ("telemetry.otlp_endpoint", &endpoint),
        ("telemetry.log", "warn"),
        ("telemetry.log_format", "json"),
    ])
    .await;
    live.track().await;
    assert_eq!(live.terminate().await, Some(0));
    assert!(live.log_text().contains("traces not sent"), "{}", live.log_text());
}
