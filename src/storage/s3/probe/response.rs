//! Parses S3's flat XML responses for the probe.

use crate::net::Response;

/// Reads an S3 response.
pub(super) trait S3Response {
    /// The text between the first `<tag>` and its end.
    fn xml(&self, tag: &str) -> Option<String>;

    /// The status and S3's error code, for a message.
    fn summary(&self) -> String;
}

impl S3Response for Response {
    fn xml(&self, tag: &str) -> Option<String> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let (_, remaining) = body.split_once(&format!("<{tag}>"))?;
        remaining.split_once("</").map(|(text, _)| text.to_owned())
    }

    fn summary(&self) -> String {
        match self.xml("Code") {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated;

    const ERROR: &str = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>\
        <UploadId>a&amp;b</UploadId></Error>";

    fn response(body: Vec<u8>) -> Response {
        Response { status: 403, headers: BTreeMap::new(), body: body.into() }
    }

    #[test]
    fn the_code_of_an_error_is_read() {
        assert_eq!(response(ERROR.into()).summary(), "403 AccessDenied");
        assert_eq!(response(vec![0xff]).summary(), "403");
    }

    proptest! {
        #[test]
        fn a_damaged_response_has_the_text_of_a_tag_or_none(
            body in prop_oneof![mutated(Just(ERROR)), prop::collection::vec(any::<u8>(), 0..60)],
        ) {
            let response = response(body.clone());
            if let Some(text) = response.xml("Code") {
                let body = String::from_utf8(body).unwrap();
                let element = format!("<Code>{text}</");
                prop_assert!(body.contains(&element));
                prop_assert!(!text.contains("</"));
            }
        }
    }
}
