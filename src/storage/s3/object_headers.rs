//! [`ObjectSettings`] in the format of S3: headers of a PUT, and fields of a form (S3 API
//! reference, `PutObject`, `CreateMultipartUpload` and "POST Object").

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::object_settings::{ObjectSettings, Sse};

const SSE: &str = "x-amz-server-side-encryption";
const SSE_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const STORAGE_CLASS: &str = "x-amz-storage-class";

/// RFC 3986's unreserved characters are not encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The names and values that are the same in headers and form fields.
fn shared(settings: &ObjectSettings) -> impl Iterator<Item = (&'static str, &str)> {
    let ObjectSettings { sse, kms_key_id, storage_class, cache_control: _, tags: _ } = settings;
    let pairs = [
        (SSE, sse.map(Sse::name)),
        (SSE_KEY, kms_key_id.as_deref()),
        (STORAGE_CLASS, storage_class.as_deref()),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// The headers of a request that creates an object. Names are in lower case.
pub(super) fn headers(settings: &ObjectSettings) -> Vec<(&'static str, String)> {
    let mut headers: Vec<_> =
        shared(settings).map(|(name, value)| (name, value.to_owned())).collect();
    if let Some(cache_control) = &settings.cache_control {
        headers.push(("cache-control", cache_control.clone()));
    }
    if let Some(tagging) = tagging(settings) {
        headers.push(("x-amz-tagging", tagging));
    }
    headers
}

/// The value of `x-amz-tagging`; `None` without tags.
pub(super) fn tagging(settings: &ObjectSettings) -> Option<String> {
    let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let pairs = settings.tags.iter().map(|(name, value)| [encode(name), encode(value)].join("="));
    let pairs: Vec<String> = pairs.collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

/// The fields of a form.
pub(super) fn fields(settings: &ObjectSettings) -> Vec<(&'static str, String)> {
    let mut fields: Vec<_> =
        shared(settings).map(|(name, value)| (name, value.to_owned())).collect();
    if let Some(cache_control) = &settings.cache_control {
        fields.push(("Cache-Control", cache_control.clone()));
    }
    if !settings.tags.is_empty() {
        let mut xml = "<Tagging><TagSet>".to_owned();
        for (name, value) in &settings.tags {
            let (name, value) = (escaped(name), escaped(value));
            let _ = write!(xml, "<Tag><Key>{name}</Key><Value>{value}</Value></Tag>");
        }
        xml.push_str("</TagSet></Tagging>");
        fields.push(("tagging", xml));
    }
    fields
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_headers_of_a_put_and_fields_of_a_form() {
        let settings = ObjectSettings {
            sse: Some(Sse::Kms),
            kms_key_id: Some("arn:aws:kms:eu-west-1:1:key/a".into()),
            storage_class: Some("STANDARD_IA".into()),
            cache_control: Some("private, max-age=60".into()),
            tags: [("team".into(), "a b&c".into()), ("x/y".into(), String::new())].into(),
        };
        let owned = |pairs: &[(&'static str, &str)]| -> Vec<_> {
            pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
        };
        let both = [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-west-1:1:key/a"),
            ("x-amz-storage-class", "STANDARD_IA"),
        ];
        let mut expected = owned(&both);
        expected.push(("cache-control", "private, max-age=60".into()));
        expected.push(("x-amz-tagging", "team=a%20b%26c&x%2Fy=".into()));
        assert_eq!(headers(&settings), expected);
        let mut expected = owned(&both);
        expected.push(("Cache-Control", "private, max-age=60".into()));
        let tags = "<Tag><Key>team</Key><Value>a b&amp;c</Value></Tag>\
                    <Tag><Key>x/y</Key><Value></Value></Tag>";
        expected.push(("tagging", format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")));
        assert_eq!(fields(&settings), expected);
        assert_eq!(headers(&ObjectSettings::default()), []);
        assert_eq!(fields(&ObjectSettings::default()), []);
    }
}
