//! A store that refuses every condition of a write with 501, as some stores do.

use serde_json::json;

use crate::storage::servers::Subject;
use crate::support::live::{Live, text};
use crate::support::mp3;

const SENTENCE: &str =
    "The store refuses requests with If-None-Match, so no upload to it can be write-once";

#[tokio::test]
async fn a_store_that_refuses_conditions_is_served_without_them() {
    let on = Subject::unconditional().await;
    // The start does not fail, because the service then writes the marker without a condition,
    // after a HEAD request.
    let live = Live::serving(&on.configuration(), &[("direct_upload.part_size", "5MiB")]).await;
    let (_, ready) = live.get("/readyz").await;
    let capabilities = &ready["capabilities"]["default"];
    assert_eq!(capabilities["write_once"], false, "{ready}");
    assert_eq!(capabilities["refuses_if_none_match"], true, "{ready}");

    let bytes = mp3(3000, 1);
    let body = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": bytes.len()});
    let (status, upload) = live.post("/api/uploads", body.clone()).await;
    assert_eq!(status, 201, "{upload}");
    let request = &upload["request"];
    assert!(request["headers"].get("if-none-match").is_none(), "{request}");
    let sent = live.send_bytes(request, bytes.clone()).await;
    assert!(sent.status().is_success(), "{sent:?}");
    let path = format!("/api/uploads/{}", text(&upload, "id"));
    let (status, upload) = live.post(&format!("{path}/confirm"), json!({})).await;
    assert_eq!((status, text(&upload, "status").as_str()), (200, "uploaded"), "{upload}");
    let (status, renewed) = live.post(&format!("{path}/confirm"), json!({})).await;
    assert_eq!(status, 200, "{renewed}");

    for strategy in ["put", "multipart"] {
        let mut body = body.clone();
        body["write_once"] = json!(true);
        body["strategy"] = json!(strategy);
        let (status, problem) = live.post("/api/uploads", body).await;
        assert_eq!(status, 400, "{strategy}: {problem}");
        assert_eq!(problem["errors"]["write_once"], json!([SENTENCE]), "{strategy}");
    }
    let (status, direct) =
        live.post("/api/uploads", json!({"filename": "b.mp3", "strategy": "direct"})).await;
    assert_eq!(status, 201, "{direct}");
    let url = format!("{}{}", live.url, text(&direct["request"], "url"));
    let sent = live.http.put(url).body(bytes).send().await.unwrap();
    assert!(sent.status().is_success(), "{sent:?}");
    on.clean_up().await;
}

#[tokio::test]
async fn a_policy_that_asks_for_write_once_is_served_as_well_as_the_store_can() {
    let on = Subject::unconditional().await;
    let changes = [("policies.tracks.write_once", "true")];
    let live = Live::serving(&on.configuration(), &changes).await;
    let bytes = mp3(3000, 1);
    let body = json!({"filename": "a.mp3", "size": bytes.len()});
    let (status, upload) = live.post("/api/uploads", body).await;
    assert_eq!(status, 201, "{upload}");
    let sent = live.send_bytes(&upload["request"], bytes).await;
    assert!(sent.status().is_success(), "{sent:?}");
    on.clean_up().await;
}
