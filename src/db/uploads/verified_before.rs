//! The facts of a verified object that was overwritten by bytes that were rejected. They are stored
//! as JSON in one column, because they are read only when the upload is verified again.

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::upload::{ObjectFacts, Verified};

#[derive(Serialize, Deserialize)]
struct Stored {
    etag: String,
    version_id: Option<String>,
    size: u64,
    content_type: Option<String>,
    checksum: Option<(Algorithm, String)>,
    confirmed_by: String,
    late: bool,
    at: Timestamp,
}

pub(super) fn to_text(verified: &Verified) -> String {
    let Verified { facts, confirmed_by, late, at } = verified;
    let ObjectFacts { etag, version_id, size, content_type, checksum } = facts.clone();
    let checksum = checksum.map(|checksum| (checksum.algorithm(), checksum.value()));
    let confirmed_by = confirmed_by.name().to_owned();
    let (late, at) = (*late, *at);
    let stored = Stored { etag, version_id, size, content_type, checksum, confirmed_by, late, at };
    serde_json::json!(stored).to_string()
}

/// `None` if the text is not what [`to_text`] writes.
pub(super) fn parse(text: &str) -> Option<Verified> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let Stored { etag, version_id, size, content_type, checksum, confirmed_by, late, at } = stored;
    let checksum = match checksum {
        Some((algorithm, value)) => Some(Checksum::parse(algorithm, &value).ok()?),
        None => None,
    };
    let facts = ObjectFacts { etag, version_id, size, content_type, checksum };
    Some(Verified { facts, confirmed_by: confirmed_by.parse().ok()?, late, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transition::tests::{at, facts};
    use crate::domain::upload::ConfirmedBy;

    #[test]
    fn all_facts_are_read_back_from_their_text() {
        let checksum = Some(Checksum::of(Algorithm::Sha256, b"abc"));
        let (version_id, content_type) = (Some("v".to_owned()), Some("audio/mpeg".to_owned()));
        let all = ObjectFacts { version_id, content_type, checksum, ..facts("a") };
        for facts in [all, facts("a")] {
            let verified =
                Verified { facts, confirmed_by: ConfirmedBy::Event, late: true, at: at(7) };
            assert_eq!(parse(&to_text(&verified)), Some(verified));
        }
        assert_eq!(parse("{}"), None);
    }
}
