//! Inspectors behind HTTP, from the request to the verdict.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App as Actix, HttpRequest, HttpResponse, HttpServer};
use chrono::TimeDelta;
use serde_json::{Value, json};
use upload_coordinator::app::App;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::inspections::{HttpExaminer, Inspector, Outcome};
use upload_coordinator::app::webhooks::signature;
use upload_coordinator::domain::inspection::{Fallback, InspectorName};
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::net::OutboundClient;

use crate::support::ID3;
use crate::support::served::Served;
use crate::support::world::World;

const SECRET: [u8; 24] = [7; 24];

/// A response of the inspector; `None` means no response.
type Scripted = Option<(u16, String)>;

#[derive(Default)]
struct Desk {
    responses: Mutex<VecDeque<Scripted>>,
    /// Id, timestamp, signature and body of each request.
    requests: Mutex<Vec<[String; 4]>>,
}

async fn respond(request: HttpRequest, body: Bytes, desk: Data<Desk>) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).expect(name).to_str().unwrap().to_owned();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let id = header("webhook-id");
    let seen = [id, header("webhook-timestamp"), header("webhook-signature"), body];
    desk.requests.lock().unwrap().push(seen);
    let next = desk.responses.lock().unwrap().pop_front().unwrap_or(Some((500, String::new())));
    let Some((status, body)) = next else {
        std::future::pending::<()>().await;
        unreachable!("the client disconnects")
    };
    HttpResponse::build(status.try_into().unwrap())
        .insert_header(("location", "/accepting"))
        .content_type("application/json")
        .body(body)
}

fn inspector() -> (Data<Desk>, String) {
    let desk = Data::new(Desk::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let data = desk.clone();
    let accepting =
        async || HttpResponse::Ok().json(json!({"verdict": "accept", "reason": "redirected"}));
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(data.clone())
            .route("/accepting", web::to(accepting))
            .default_service(web::to(respond))
    });
    tokio::spawn(server.workers(1).listen(listener).unwrap().disable_signals().run());
    (desk, format!("http://{address}/inspect"))
}

struct Setting {
    world: World,
    app: Arc<App>,
    desk: Data<Desk>,
}

impl Setting {
    async fn new(allow_private: bool) -> Self {
        let name = InspectorName::new("acme");
        let inspect = vec![name.clone()];
        let world = World::with(|policy| policy.inspect = inspect).await;
        let (desk, url) = inspector();
        let timeout = Duration::from_secs(2);
        let examiner = HttpExaminer {
            url: url.parse().unwrap(),
            secret: SECRET.to_vec().into(),
            client: OutboundClient::new(timeout, allow_private),
        };
        let inspector = Inspector {
            name: name.clone(),
            examiner: Box::new(examiner),
            timeout,
            deadline: TimeDelta::minutes(15),
            max_size: 1000,
            concurrency: 4,
            on_error: Fallback::Hold,
            on_unscannable: Fallback::Hold,
        };
        let inspectors = [(name, Arc::new(inspector))].into();
        let app = Arc::new(App { inspectors, ..world.replica().await });
        Self { world, app, desk }
    }

    async fn arrived(&self) -> Upload {
        let upload = self.world.create(NewUpload::default()).await;
        self.world.put(&upload, ID3).await;
        self.app.confirm_upload(&self.world.owner, upload.id).await.unwrap()
    }

    fn says(&self, response: Scripted) {
        self.desk.responses.lock().unwrap().push_back(response);
    }

    async fn inspect(&self) -> Outcome {
        self.world.pass(TimeDelta::minutes(1));
        let inspector = self.app.inspectors.values().next().unwrap();
        let claimed = self.app.claim_inspections(inspector, 1, false).await.unwrap();
        self.app.inspect(inspector, &claimed[0]).await.unwrap()
    }
}

fn ok(body: &Value) -> (u16, String) {
    (200, body.to_string())
}

#[tokio::test]
async fn an_inspection_is_a_signed_message_with_a_url_of_the_file() {
    let on = Setting::new(true).await;
    let upload = on.arrived().await;
    on.says(Some((500, String::new())));
    assert_eq!(on.inspect().await, Outcome::Failed);
    let said = json!({"verdict": "accept", "annotations": {"score": 0.5, "model": "a\u{0}b"}});
    on.says(Some(ok(&said)));
    assert_eq!(on.inspect().await, Outcome::Accepted);

    let requests = on.desk.requests.lock().unwrap().clone();
    let [id, at, signed, body] = &requests[1];
    assert_eq!(*signed, signature(&SECRET, id, at, body).unwrap());
    assert_eq!(requests[0][0], *id, "a retry has the same message id");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], "upload.inspect");
    let data = &body["data"];
    assert_eq!(data["upload"]["id"], upload.id.to_string());
    assert_eq!(data["upload"]["status"], "inspecting");
    assert_eq!(data["etag"], upload.state.facts().unwrap().etag);
    assert!(data["download"]["url"].as_str().unwrap().contains(upload.key.as_str()));
    let expires: chrono::DateTime<chrono::Utc> =
        data["download"]["expires_at"].as_str().unwrap().parse().unwrap();
    let left = expires - on.app.now();
    assert!(left > TimeDelta::minutes(14) && left <= TimeDelta::minutes(15), "{left}");
    let served = on.world.get(upload.id).await;
    assert_eq!(served.status(), Status::Uploaded);
    let said = &served.annotations[&InspectorName::new("acme")];
    assert_eq!((&said["score"], &said["model"]), (&json!(0.5), &json!("a\u{0}b")));
}

#[tokio::test]
async fn a_response_without_a_verdict_is_an_error_and_never_an_acceptance() {
    let on = Setting::new(true).await;
    let upload = on.arrived().await;
    let long = json!({"verdict": "accept", "reason": "x".repeat(70_000)});
    for response in [
        Some((200, "OK".to_owned())),
        Some((200, String::new())),
        Some(ok(&json!({"verdict": "fine"}))),
        Some(ok(&json!(["accept"]))),
        Some(ok(&long)),
        Some((204, String::new())),
        Some((202, json!({"verdict": "accept"}).to_string())),
        Some((302, json!({"verdict": "accept"}).to_string())),
        Some((307, json!({"verdict": "accept"}).to_string())),
        Some((404, json!({"verdict": "accept"}).to_string())),
        Some((500, json!({"verdict": "accept"}).to_string())),
        None,
    ] {
        on.says(response.clone());
        assert_eq!(on.inspect().await, Outcome::Failed, "{response:?}");
        assert_eq!(on.world.get(upload.id).await.status(), Status::Inspecting);
    }
    on.says(Some(ok(&json!({"verdict": "reject", "reason": "Not a\nsong"}))));
    assert_eq!(on.inspect().await, Outcome::Rejected);
    let rejected = on.world.get(upload.id).await;
    assert_eq!(rejected.detail.as_deref(), Some("acme: Not a song"));
}

#[tokio::test]
async fn no_request_is_sent_to_an_inspector_at_a_private_address() {
    let on = Setting::new(false).await;
    on.arrived().await;
    assert_eq!(on.inspect().await, Outcome::Failed);
    assert!(on.desk.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_deferred_verdict_may_arrive_late_twice_or_never() {
    let on = Setting::new(true).await;
    let upload = on.arrived().await;
    on.says(Some(ok(&json!({"verdict": "defer"}))));
    assert_eq!(on.inspect().await, Outcome::Deferred);
    let Setting { world, app, .. } = on;
    let served = Served::over(world, app);
    let path = format!("{}/api/uploads/{}/verdicts", served.url, upload.id);
    let send = async |body: Value| {
        let response = served.client.post(&path).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    let etag = &upload.state.facts().unwrap().etag;
    let whole = json!({"inspector": "acme", "etag": etag, "verdict": "accept",
        "annotations": {"score": 1}});
    for (field, value) in [
        ("inspector", json!("nobody")),
        ("inspector", Value::Null),
        ("inspector", json!("a\u{0}")),
        ("etag", Value::Null),
        ("etag", json!("")),
        ("verdict", json!("defer")),
        ("verdict", json!("maybe")),
        ("annotations", json!([])),
        ("annotations", json!({"x": "y".repeat(20_000)})),
        ("more", json!(1)),
    ] {
        let mut body = whole.clone();
        body[field] = value;
        let (status, problem) = send(body).await;
        assert_eq!(status, 400, "{field}: {problem}");
    }
    let mut other = whole.clone();
    other["etag"] = json!("other");
    let (status, unchanged) = send(other).await;
    assert_eq!((status, &unchanged["status"]), (200, &json!("inspecting")));
    for _ in 0..2 {
        let (status, uploaded) = send(whole.clone()).await;
        assert_eq!((status, &uploaded["status"]), (200, &json!("uploaded")), "{uploaded}");
        assert_eq!(uploaded["annotations"], json!({"acme": {"score": 1}}));
        assert_eq!(uploaded["detail"], Value::Null);
    }
    let mut rejects = whole;
    rejects["verdict"] = json!("reject");
    let (_, late) = send(rejects).await;
    assert_eq!(late["status"], "uploaded", "the first verdict counts");
    served.stop().await;
}
