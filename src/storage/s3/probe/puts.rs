//! Checks of presigned PUTs: what the store refuses, and what it returns.

use bytes::Bytes;
use futures_util::future::join_all;

use super::response::S3Response as _;
use super::{Check, Prober, Step};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::storage::ObjectMeta;
use crate::storage::signer::PutRequest;

const RIGHT: &[u8] = b"probe";
/// Has the same length as [`RIGHT`], so only the bytes differ.
const WRONG: &[u8] = b"PROBE";
const LONGER: &[u8] = b"probes";

/// The number of concurrent creations. On stores that check and write in two steps, most of them
/// succeed.
const RACERS: usize = 16;

const REFUSED: &str = "No URL is signed with this header, and requests with write_once = true are \
                       refused. A URL can be used again until it expires. Before a download is \
                       signed, the object is compared with the verified one. Keep url_ttl short.";

const ON_ARRIVAL: &str =
    "Nothing is lost: the service verifies the value on arrival, after the transfer.";

const CHECKSUM_DEMANDED: &str = "The bucket accepts only PUTs with a checksum, because it has a \
                                 default retention (object lock). Use a bucket without \
                                 one: clients do not always declare a checksum, and nothing could \
                                 be deleted.";

fn versioning(meta: &ObjectMeta) -> Check {
    match &meta.version_id {
        Some(_) => Check::pass(
            "versioning",
            "the bucket has versioning; a deletion removes all versions of an object",
        ),
        None => Check::pass("versioning", "the bucket does not have versioning"),
    }
}

fn object_lock(meta: &ObjectMeta) -> Check {
    if meta.locked {
        let saw = "new objects are locked: they cannot be deleted before their retention ends";
        let mend = "Deletions fail until then and are repeated. Use a bucket without a default \
                    retention if uploads must be deleted earlier.";
        return Check::warn("object_lock", saw, mend);
    }
    Check::pass("object_lock", "new objects are not locked")
}

impl Prober<'_> {
    pub(super) async fn presigned_put(&mut self) -> Step<()> {
        let key = self.key("put");
        let options = PutRequest {
            content_type: Some("audio/mpeg".into()),
            content_length: Some(RIGHT.len() as u64),
            ..PutRequest::default()
        };
        let mend = "If this is a signature error, the public endpoint reaches the store under \
                    another host name, or a proxy changes requests; otherwise the access key has no write permission.";
        let response = self.put(&key, &options, RIGHT).await?;
        if !response.is_success() {
            let checksum = Some(Checksum::of(Algorithm::Md5, RIGHT));
            let checked = self.put(&key, &PutRequest { checksum, ..options }, RIGHT).await?;
            let saw = format!("a presigned PUT returns {}", response.summary());
            if checked.is_success() {
                return Err(Check::fail("object_lock", saw, CHECKSUM_DEMANDED).into());
            }
            return Err(Check::fail("presigned_put", saw, mend).into());
        }
        // A URL without signed headers, as for `curl -T`.
        let bare = self.put(&key, &PutRequest::default(), RIGHT).await?;
        if !bare.is_success() {
            let saw = format!("a presigned PUT without signed headers returns {}", bare.summary());
            return Err(Check::fail("presigned_put", saw, mend).into());
        }
        match self.store.objects.head(&key).await? {
            Some(meta) if meta.size == RIGHT.len() as u64 => {
                let md5 = Checksum::parse_md5_hex(&meta.etag).filter(|_| !meta.keyed);
                let right = Checksum::of(Algorithm::Md5, RIGHT);
                self.learn(|can| {
                    can.etag_md5 = md5 == Some(right);
                    can.versioning = meta.version_id.is_some();
                    can.object_lock = meta.locked;
                });
                let saw = "presigned PUTs arrive in the bucket";
                self.record(Check::pass("presigned_put", saw));
                self.record(versioning(&meta));
                self.record(object_lock(&meta));
                Ok(())
            }
            found => {
                let size = found.map(|meta| meta.size);
                let saw = format!("after a presigned PUT, HEAD shows the size {size:?}");
                let mend = "Check that endpoint and public_endpoint lead to the same bucket.";
                Err(Check::fail("presigned_put", saw, mend).into())
            }
        }
    }

    pub(super) async fn signature(&self) -> Step<Check> {
        let (key, other) = (self.key("signature"), self.key("signature-other"));
        let mut signed = self.sign_put(&key, &PutRequest::default()).await?;
        let moved = {
            let mut moved = signed.clone();
            moved.url = moved.url.replacen("/signature?", "/signature-other?", 1);
            self.send(&moved, RIGHT).await?
        };
        signed.url.truncate(signed.url.find('?').unwrap_or(signed.url.len()));
        let unsigned = self.send(&signed, RIGHT).await?;
        let landed = self.etag(&key).await?.is_some() || self.etag(&other).await?.is_some();
        Ok(if unsigned.is_success() {
            let mend = "Remove the public write permission from the bucket.";
            Check::fail("signature", "anyone may write to the bucket without a signature", mend)
        } else if moved.is_success() || landed {
            let mend = "Enable the verification of signatures; never use this store in production.";
            Check::fail("signature", "a URL that is signed for one key writes another", mend)
        } else {
            let saw =
                format!("a URL with the signature of another key returns {}", moved.summary());
            Check::pass("signature", saw)
        })
    }

    pub(super) async fn signed_length(&self) -> Step<Check> {
        let key = self.key("length");
        let length = Some(RIGHT.len() as u64);
        let options = PutRequest { content_length: length, ..PutRequest::default() };
        let response = self.put(&key, &options, LONGER).await?;
        let refused = response.is_refusal() && self.etag(&key).await?.is_none();
        self.learn(|can| can.signed_length = refused);
        let saw = format!("a body longer than signed returns {}", response.summary());
        Ok(if refused {
            Check::pass("signed_length", saw)
        } else {
            Check::warn("signed_length", saw, ON_ARRIVAL)
        })
    }

    pub(super) async fn signed_content_type(&self) -> Step<Check> {
        let key = self.key("type");
        let options =
            PutRequest { content_type: Some("audio/mpeg".into()), ..PutRequest::default() };
        let mut signed = self.sign_put(&key, &options).await?;
        signed.headers.insert("content-type".into(), "text/html".into());
        let response = self.send(&signed, RIGHT).await?;
        let refused = response.is_refusal() && self.etag(&key).await?.is_none();
        self.learn(|can| can.signed_content_type = refused);
        let saw = format!("a content type other than signed returns {}", response.summary());
        Ok(if refused {
            Check::pass("signed_content_type", saw)
        } else {
            Check::warn("signed_content_type", saw, ON_ARRIVAL)
        })
    }

    /// Sends a second PUT, and then concurrent ones. A store that checks first and writes later
    /// passes only the first test.
    pub(super) async fn write_once(&self) -> Step<Check> {
        let options = PutRequest { write_once: true, ..PutRequest::default() };
        let key = self.key("once");
        let first = self.put(&key, &options, RIGHT).await?;
        let before = self.etag(&key).await?;
        // `presigned_put` sent the same request without `If-None-Match`, and it was accepted. If this
        // one is refused, the header is the reason.
        let is_condition = first.is_refusal() || first.status == 501;
        if is_condition && !matches!(first.status, 408 | 429) && before.is_none() {
            self.learn(|can| can.refuses_if_none_match = true);
            let saw = format!("a creation with If-None-Match returns {}", first.summary());
            return Ok(Check::warn("write_once", saw, REFUSED));
        }
        let second = self.put(&key, &options, WRONG).await?;
        let unchanged = before.is_some() && self.etag(&key).await? == before;
        let in_turn = first.is_success() && second.is_refusal() && unchanged;

        let mut winners = 0;
        if in_turn {
            let signed = self.sign_put(&self.key("race"), &options).await?;
            let bodies = (0..RACERS).map(|n| Bytes::from(format!("racer {n}")));
            let racers = bodies.map(|body| self.send_bytes(&signed, body));
            for response in join_all(racers).await {
                winners += usize::from(response?.is_success());
            }
        }
        let effective = in_turn && winners == 1;
        self.learn(|can| can.write_once = effective);
        let saw = if in_turn {
            format!("{winners} of {RACERS} concurrent creations succeeded")
        } else {
            format!("a second creation returns {}", second.summary())
        };
        Ok(if effective {
            Check::pass("write_once", saw)
        } else {
            let mend = "A URL can be used again until it expires. Before a download is \
                        signed, the object is compared with the verified one. Keep url_ttl short.";
            Check::warn("write_once", saw, mend)
        })
    }

    pub(super) async fn checksum(&self, algorithm: Algorithm) -> Step<Check> {
        let name = format!("checksum_{algorithm}");
        let key = self.key(&name);
        let declared = Checksum::of(algorithm, RIGHT);
        let options = PutRequest { checksum: Some(declared.clone()), ..PutRequest::default() };
        let right = self.put(&key, &options, RIGHT).await?;
        if !right.is_success() {
            let saw = format!("bytes with the declared checksum return {}", right.summary());
            return Ok(Check::warn(name, saw, "Don't let clients declare this algorithm."));
        }
        let before = self.store.objects.head(&key).await?;
        let wrong = self.put(&key, &options, WRONG).await?;
        // Some stores return an error but replace the object anyway.
        let unchanged = self.etag(&key).await? == before.as_ref().map(|meta| meta.etag.clone());
        let enforced = wrong.is_refusal() && unchanged;
        let returned = before.is_some_and(|meta| meta.checksums.contains(&declared));
        self.learn(|can| {
            can.enforced_checksums.extend(enforced.then_some(algorithm));
            can.returned_checksums.extend(returned.then_some(algorithm));
        });
        let shown = if returned { "HEAD shows it" } else { "HEAD does not show it" };
        let saw = format!("wrong bytes return {}; {shown}", wrong.summary());
        Ok(if enforced {
            Check::pass(name, saw)
        } else {
            let mend = "Nothing is lost: the bytes are read and compared on arrival.";
            Check::warn(name, saw, mend)
        })
    }
}
