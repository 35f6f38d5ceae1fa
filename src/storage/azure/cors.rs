//! The CORS rules. They belong to the account's blob service, so they apply to all its containers.

use super::Azure;
use super::client::{About, Call};
use super::xml::{Element, escaped};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::storage::s3::CorsRule;
use crate::storage::{Result, StoreError};

/// The largest number of rules ("Set Blob Service Properties").
const MAX_RULES: usize = 5;

impl Azure {
    /// The rules of the account.
    pub async fn get_cors(&self) -> Result<Vec<CorsRule>> {
        let root = self.client.xml(&properties("GET")).await?;
        let rules = root.child("Cors").into_iter().flat_map(|cors| cors.all("CorsRule"));
        Ok(rules.map(read).collect())
    }

    /// Replaces the rules of the account. Its other properties do not change.
    pub async fn put_cors(&self, rules: &[CorsRule]) -> Result<()> {
        if rules.len() > MAX_RULES {
            return Err(StoreError::Refused {
                code: "TooManyRules".to_owned(),
                source: format!("an account has at most {MAX_RULES} CORS rules").into(),
            });
        }
        let mut body =
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><StorageServiceProperties><Cors>".to_owned();
        for rule in rules {
            body.push_str(&write(rule));
        }
        body.push_str("</Cors></StorageServiceProperties>");
        let md5 = Checksum::of(Algorithm::Md5, body.as_bytes());
        let call = properties("PUT").header(Algorithm::Md5.header(), md5.value());
        Ok(self.client.send(&call.body(body.into())).await.map(drop)?)
    }
}

fn properties(method: &'static str) -> Call<'static> {
    Call::new(method, About::Service).query("restype", "service").query("comp", "properties")
}

fn read(rule: &Element) -> CorsRule {
    let list = |name: &str| {
        let items = rule.text_of(name).unwrap_or_default().split(',').map(str::trim);
        items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    CorsRule {
        allowed_origins: list("AllowedOrigins"),
        allowed_methods: list("AllowedMethods"),
        allowed_headers: list("AllowedHeaders"),
        expose_headers: list("ExposedHeaders"),
        max_age_seconds: rule
            .text_of("MaxAgeInSeconds")
            .and_then(|age| age.parse().ok())
            .unwrap_or(0),
    }
}

fn write(rule: &CorsRule) -> String {
    let CorsRule {
        allowed_origins,
        allowed_methods,
        allowed_headers,
        expose_headers,
        max_age_seconds,
    } = rule;
    let mut xml = "<CorsRule>".to_owned();
    for (name, values) in [
        ("AllowedOrigins", allowed_origins),
        ("AllowedMethods", allowed_methods),
        ("AllowedHeaders", allowed_headers),
        ("ExposedHeaders", expose_headers),
    ] {
        xml.extend(["<", name, ">", &escaped(&values.join(",")), "</", name, ">"]);
    }
    xml.extend(["<MaxAgeInSeconds>", &max_age_seconds.to_string(), "</MaxAgeInSeconds>"]);
    xml.push_str("</CorsRule>");
    xml
}
