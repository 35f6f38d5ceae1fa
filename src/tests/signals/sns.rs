//! Bucket events that SNS posts, with signatures in the format of SNS. A fake replaces the servers
//! of SNS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs1KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use upload_coordinator::auth::sns::{Sns, SnsClient};
use upload_coordinator::domain::Status;
use upload_coordinator::domain::sns::SnsMessage;
use upload_coordinator::http::EventAuth;
use upload_coordinator::net::{self, NetError};
use url::Url;

use crate::support::ID3;
use crate::support::served::{Served, TOKEN};
use crate::support::world::World;

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:uploads";
const HOST: &str = "https://sns.eu-central-1.amazonaws.com";

/// Replaces the servers of SNS: returns the certificate, and records the requests.
#[derive(Default)]
struct Amazon {
    is_down: bool,
    requests: Mutex<Vec<String>>,
}

#[async_trait]
impl SnsClient for Amazon {
    async fn get(&self, url: &Url) -> Result<net::Response, NetError> {
        self.requests.lock().unwrap().push(url.to_string());
        if self.is_down {
            return Err(NetError::PrivateAddress);
        }
        let body = if url.path().contains(".pem") {
            include_bytes!("../http/keys/sns.pem").as_slice().into()
        } else {
            bytes::Bytes::new()
        };
        Ok(net::Response { status: 200, headers: BTreeMap::new(), body })
    }
}

impl Amazon {
    /// The recorded requests, without those for the certificate.
    fn visits(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|url| !url.contains(".pem")).cloned().collect()
    }
}

async fn served(amazon: Amazon) -> (Served, Arc<Amazon>) {
    let amazon = Arc::new(amazon);
    let sns = Sns::with_client([TOPIC.to_owned()], amazon.clone());
    let world = World::new().await;
    let app = world.app.clone();
    let auth = EventAuth::new(Some(TOKEN.into())).with_sns(sns);
    (Served::with_events(world, app, auth), amazon)
}

/// A message of SNS with these fields, signed.
fn signed(fields: Value) -> Value {
    let mut message = json!({"MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC, "Timestamp": "2026-11-30T00:54:06.655Z", "SignatureVersion": "2",
        "Signature": "", "SigningCertURL": format!("{HOST}/SimpleNotificationService-1.pem")});
    message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let parsed: SnsMessage = serde_json::from_value(message.clone()).unwrap();
    let key = PrivatePkcs1KeyDer::from_pem_slice(include_bytes!("../http/keys/rsa.pem")).unwrap();
    let key = RsaKeyPair::from_der(key.secret_pkcs1_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    let text = parsed.signed_text();
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    message["Signature"] = STANDARD.encode(signature).into();
    message
}

fn created(key: &str) -> String {
    json!({"Records": [{"eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "memory"}, "object": {"key": key.replace('/', "%2F")}}}]})
    .to_string()
}

fn notification(key: &str) -> Value {
    signed(json!({"Type": "Notification", "Subject": "Amazon S3 Notification",
        "Message": created(key)}))
}

fn confirmation(topic: &str, subscribe_url: &str) -> Value {
    signed(json!({"Type": "SubscriptionConfirmation", "TopicArn": topic, "Token": "2336412f37f",
        "Message": "You have chosen to subscribe", "SubscribeURL": subscribe_url}))
}

impl Served {
    /// Sends a message as SNS does after a 401, with the credentials of the URL.
    async fn deliver(&self, message: &Value) -> Response {
        let user = Some(("sns", Some(TOKEN)));
        self.post(message["Type"].as_str(), "text/plain; charset=UTF-8", user, message).await
    }

    async fn post(
        &self,
        kind: Option<&str>,
        media_type: &str,
        user: Option<(&str, Option<&str>)>,
        body: &Value,
    ) -> Response {
        let mut request = self.client.post(format!("{}/api/events/s3", self.url));
        if let Some(kind) = kind {
            request = request.header("x-amz-sns-message-type", kind);
        }
        if let Some((name, password)) = user {
            request = request.basic_auth(name, password);
        }
        let request = request.header("content-type", media_type).body(body.to_string());
        request.send().await.unwrap()
    }
}

async fn problem(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["type"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_notification_of_sns_confirms_an_upload() {
    let (served, amazon) = served(Amazon::default()).await;
    let upload = served.world.upload().await;
    served.world.put(&upload, ID3).await;
    let message = notification(upload.key.as_str());
    for _ in 0..2 {
        assert_eq!(served.deliver(&message).await.status(), 204);
    }
    assert_eq!(served.world.get(upload.id).await.status(), Status::Uploaded);
    assert_eq!(amazon.requests.lock().unwrap().len(), 1, "the key is cached");
    served.stop().await;
}

#[tokio::test]
async fn a_message_that_sns_did_not_sign_is_403_and_changes_nothing() {
    let (served, amazon) = served(Amazon::default()).await;
    let upload = served.world.upload().await;
    served.world.put(&upload, ID3).await;
    let mut foreign = notification(upload.key.as_str());
    foreign["SigningCertURL"] = "https://sns.s3-us-west-2.amazonaws.com/mine.pem".into();
    let refused = served.deliver(&foreign).await;
    assert_eq!(problem(refused).await, (403, "/problems/signature".into()));
    assert!(amazon.requests.lock().unwrap().is_empty(), "a foreign address was visited");
    let mut changed = notification("tracks/other");
    changed["Message"] = created(upload.key.as_str()).into();
    let refused = served.deliver(&changed).await;
    assert_eq!(problem(refused).await, (403, "/problems/signature".into()));
    changed["Signature"] = "no base64".into();
    let refused = served.deliver(&changed).await;
    assert_eq!(problem(refused).await, (403, "/problems/signature".into()));
    changed.as_object_mut().unwrap().remove("Signature");
    assert_eq!(problem(served.deliver(&changed).await).await, (400, "/problems/validation".into()));
    assert_eq!(served.world.get(upload.id).await.status(), Status::Pending);
    served.stop().await;
}

#[tokio::test]
async fn only_subscriptions_to_listed_topics_are_confirmed() {
    let (served, amazon) = served(Amazon::default()).await;
    let url = format!("{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37f");
    let other = confirmation("arn:aws:sns:eu-central-1:123456789012:other", &url);
    assert_eq!(served.deliver(&other).await.status(), 204);
    assert!(amazon.visits().is_empty());
    let foreign = confirmation(TOPIC, "https://evil.example/?Action=ConfirmSubscription");
    let refused = served.deliver(&foreign).await;
    assert_eq!(problem(refused).await, (403, "/problems/signature".into()));
    let mut unsigned = confirmation(TOPIC, &url);
    unsigned["Token"] = "another".into();
    assert_eq!(served.deliver(&unsigned).await.status(), 403);
    assert!(amazon.visits().is_empty());
    let mut ended = confirmation(TOPIC, &url);
    ended["Type"] = "UnsubscribeConfirmation".into();
    assert_eq!(served.deliver(&signed(ended)).await.status(), 204);
    assert!(amazon.visits().is_empty(), "a deleted subscription was restored");
    assert_eq!(served.deliver(&confirmation(TOPIC, &url)).await.status(), 204);
    assert_eq!(amazon.visits(), [url]);
    served.stop().await;
}

#[tokio::test]
async fn while_sns_does_not_respond_its_messages_are_503() {
    let (served, _) = served(Amazon { is_down: true, ..Amazon::default() }).await;
    let refused = served.deliver(&notification("tracks/x")).await;
    assert_eq!(problem(refused).await, (503, "/problems/unavailable".into()));
    served.stop().await;
}

#[tokio::test]
async fn sns_is_challenged_for_the_credentials_of_its_url() {
    let (served, amazon) = served(Amazon::default()).await;
    let message = notification("tracks/x");
    let kind = Some("Notification");
    for user in [None, Some(("sns", Some("wrong"))), Some((TOKEN, None)), Some((TOKEN, Some("")))] {
        let refused = served.post(kind, "text/plain", user, &message).await;
        assert_eq!(refused.status(), 401, "{user:?}");
        assert_eq!(refused.headers()["www-authenticate"], "Basic realm=\"upload-coordinator\"");
    }
    assert!(amazon.requests.lock().unwrap().is_empty());
    // Other senders may use either scheme.
    let refused = served.post(None, "application/json", None, &message).await;
    let challenges = refused.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenges.contains("Bearer realm=") && challenges.contains("Basic realm="));
    let user = Some(("anyone", Some(TOKEN)));
    let accepted = served.post(None, "application/json", user, &message).await;
    assert_eq!(accepted.status(), 204);
    served.stop().await;
}

#[tokio::test]
async fn plain_text_is_accepted_only_from_sns_and_raw_messages_need_no_signature() {
    let (served, amazon) = served(Amazon::default()).await;
    let raw: Value = serde_json::from_str(&created("tracks/x")).unwrap();
    let user = Some(("sns", Some(TOKEN)));
    assert_eq!(served.post(None, "text/plain", user, &raw).await.status(), 415);
    let url = format!("{}/api/events/s3", served.url);
    let request = served.client.post(url).basic_auth("sns", Some(TOKEN));
    let request = request.header("x-amz-sns-message-type", "Notification");
    let request = request.header("x-amz-sns-rawdelivery", "true");
    let request = request.header("content-type", "text/plain; charset=UTF-8");
    let accepted = request.body(raw.to_string()).send().await.unwrap();
    assert_eq!(accepted.status(), 204);
    let text = signed(json!({"Type": "Notification", "Message": "no JSON"}));
    assert_eq!(problem(served.deliver(&text).await).await, (400, "/problems/bad-request".into()));
    assert!(amazon.visits().is_empty());
    served.stop().await;
}
