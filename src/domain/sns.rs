//! Messages that Amazon SNS posts to an HTTP endpoint: their fields, the signed text, and the hosts
//! that belong to SNS.

use serde::Deserialize;
use url::Url;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SnsKind {
    /// A message that was published to the topic.
    Notification,
    /// Somebody subscribed this endpoint to the topic. A GET of `SubscribeURL` confirms the
    /// subscription.
    SubscriptionConfirmation,
    /// The subscription was deleted. A GET of `SubscribeURL` would restore it.
    UnsubscribeConfirmation,
}

/// How a message is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SignatureVersion {
    /// RSA PKCS #1 with SHA-1.
    #[serde(rename = "1")]
    Sha1,
    /// RSA PKCS #1 with SHA-256.
    #[serde(rename = "2")]
    Sha256,
}

/// A message. It must not be trusted before its signature is verified.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnsMessage {
    /// The kind.
    #[serde(rename = "Type")]
    pub kind: SnsKind,
    /// The id of the message.
    pub message_id: String,
    /// The topic's ARN.
    pub topic_arn: String,
    /// The text that was published.
    pub message: String,
    /// When it was published.
    pub timestamp: String,
    /// How it is signed.
    pub signature_version: SignatureVersion,
    /// The signature in base64.
    pub signature: String,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: String,
    subject: Option<String>,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
}

impl SnsMessage {
    /// The text that SNS signs: the names and values of some fields, each on its own line, sorted
    /// by name. Absent fields are omitted.
    pub fn signed_text(&self) -> String {
        let optional = |name, value: &Option<String>| value.clone().map(|value| (name, value));
        let kind = match self.kind {
            SnsKind::Notification => "Notification",
            SnsKind::SubscriptionConfirmation => "SubscriptionConfirmation",
            SnsKind::UnsubscribeConfirmation => "UnsubscribeConfirmation",
        };
        let (subject, subscribe_url, token) = match self.kind {
            SnsKind::Notification => (optional("Subject", &self.subject), None, None),
            SnsKind::SubscriptionConfirmation | SnsKind::UnsubscribeConfirmation => (
                None,
                optional("SubscribeURL", &self.subscribe_url),
                optional("Token", &self.token),
            ),
        };
        let fields = [
            Some(("Message", self.message.clone())),
            Some(("MessageId", self.message_id.clone())),
            subject,
            subscribe_url,
            Some(("Timestamp", self.timestamp.clone())),
            token,
            Some(("TopicArn", self.topic_arn.clone())),
            Some(("Type", kind.to_owned())),
        ];
        let lines = fields.into_iter().flatten();
        lines.fold(String::new(), |text, (name, value)| text + name + "\n" + &value + "\n")
    }

    /// The URL of the certificate. `None` if it is not a URL of SNS.
    pub fn certificate_url(&self) -> Option<Url> {
        let url = url_of_sns(&self.signing_cert_url)?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        let is_pem = url.path().rsplit_once('.').is_some_and(|(_, extension)| extension == "pem");
        (is_plain && is_pem).then_some(url)
    }

    /// The URL that confirms the subscription. `None` if it is not a URL of SNS.
    pub fn subscribe_url(&self) -> Option<Url> {
        url_of_sns(self.subscribe_url.as_deref()?)
    }
}

/// Parses an `https` URL of `sns.REGION.amazonaws.com`, or of `.com.cn` for China's regions.
fn url_of_sns(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str()?;
    let global = host.strip_suffix(".amazonaws.com");
    let chinese = || host.strip_suffix(".amazonaws.com.cn");
    let region = global.or_else(chinese)?.strip_prefix("sns.")?;
    (is_plain && is_region(region)).then_some(url)
}

/// Whether a text has the form of a region, such as `us-east-1` or `us-gov-west-1`. Other names are
/// refused: `sns.s3-us-west-2.amazonaws.com` is the address of a bucket named `sns`.
fn is_region(text: &str) -> bool {
    let labels: Vec<&str> = text.split('-').collect();
    let [continent, middle @ .., number] = labels.as_slice() else { return false };
    let is_word = |label: &&str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase());
    (2..=4).contains(&continent.len())
        && is_word(continent)
        && (1..=2).contains(&middle.len())
        && middle.iter().all(is_word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn message(change: Value) -> SnsMessage {
        let mut message = json!({"Type": "Notification", "MessageId": "id", "TopicArn": "arn",
            "Message": "text\n", "Timestamp": "now", "SignatureVersion": "1", "Signature": "",
            "SigningCertURL": "https://sns.us-east-1.amazonaws.com/a.pem"});
        message.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(message).unwrap()
    }

    #[test]
    fn the_signed_text_has_the_fields_of_the_kind_in_the_order_of_their_names() {
        let all = json!({"Subject": "s", "Token": "t", "SubscribeURL": "u"});
        assert_eq!(
            message(all.clone()).signed_text(),
            "Message\ntext\n\nMessageId\nid\nSubject\ns\nTimestamp\nnow\nTopicArn\narn\nType\nNotification\n"
        );
        assert_eq!(
            message(json!({"Subject": null})).signed_text(),
            "Message\ntext\n\nMessageId\nid\nTimestamp\nnow\nTopicArn\narn\nType\nNotification\n"
        );
        for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
            let mut all = all.clone();
            all["Type"] = kind.into();
            let text = "Message\ntext\n\nMessageId\nid\nSubscribeURL\nu\nTimestamp\nnow\nToken\nt\nTopicArn\narn\nType\n";
            assert_eq!(message(all).signed_text(), format!("{text}{kind}\n"));
        }
    }

    #[test]
    fn only_urls_of_sns_are_used_for_certificates_and_confirmations() {
        let certificate = |url: &str| message(json!({"SigningCertURL": url})).certificate_url();
        let subscribe = |url: &str| message(json!({"SubscribeURL": url})).subscribe_url();
        for host in [
            "sns.us-east-1.amazonaws.com",
            "SNS.us-gov-west-1.amazonaws.com:443",
            "sns.ap-southeast-14.amazonaws.com",
            "sns.cn-north-1.amazonaws.com.cn",
        ] {
            assert!(certificate(&format!("https://{host}/a.pem")).is_some(), "{host}");
            assert!(subscribe(&format!("https://{host}/?Action=Confirm")).is_some(), "{host}");
        }
        for host in [
            "sns.amazonaws.com",
            "sns.s3.amazonaws.com",
            "sns.s3-us-west-2.amazonaws.com",
            "sns.us-east-1.amazonaws.com.evil.example",
            "sns.us-east-1.amazonaws.co",
            "evil-sns.us-east-1.amazonaws.com",
            "sns.us-east-1.evil.amazonaws.com",
            "sns.us-east-1.amazonaws.com:8443",
            "sns.us-east-1.amazonaws.com@evil.example",
            "user@sns.us-east-1.amazonaws.com",
            "sns.us-east-1.amazonaws.com.",
            "evil.example",
            "127.0.0.1",
        ] {
            assert_eq!(certificate(&format!("https://{host}/a.pem")), None, "{host}");
            assert_eq!(subscribe(&format!("https://{host}/")), None, "{host}");
        }
        for url in [
            "http://sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com/a.txt",
            "https://sns.us-east-1.amazonaws.com/?a.pem",
            "https://sns.us-east-1.amazonaws.com/a.pem?b",
            "https:///a.pem",
            "",
        ] {
            assert_eq!(certificate(url), None, "{url}");
        }
        assert_eq!(message(json!({})).subscribe_url(), None);
    }
}
