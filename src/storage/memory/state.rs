//! The state of the store in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};

use super::{
    Checksum, ListFailure, ListPage, ListRequest, Listed, MAX_PAGE, ObjectMeta, Part, PutOptions,
    Result, StoreError, Timestamp, Written, is_returned_by_head, refused,
};
use crate::domain::object_settings::Sse;

#[derive(Default)]
pub(super) struct State {
    pub(super) bucket: bool,
    /// The current object of each key.
    pub(super) objects: BTreeMap<String, Object>,
    /// Whether the bucket has versioning.
    pub(super) keeps_versions: bool,
    /// The versions of each key, the newest last. `None` is a delete marker.
    pub(super) versions: BTreeMap<String, Vec<(String, Option<Object>)>>,
    pub(super) multiparts: BTreeMap<(String, String), Multipart>,
    /// The number of multipart uploads and versions that were ever created.
    pub(super) created: u64,
}

#[derive(Clone)]
pub(super) struct Object {
    etag: String,
    version_id: Option<String>,
    body: Bytes,
    options: PutOptions,
    last_modified: Timestamp,
}

pub(super) struct Multipart {
    pub(super) options: PutOptions,
    pub(super) initiated: Timestamp,
    pub(super) parts: BTreeMap<u16, StoredPart>,
}

pub(super) struct StoredPart {
    pub(super) md5: [u8; 16],
    pub(super) body: Bytes,
    pub(super) last_modified: Timestamp,
}

pub(super) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

impl Object {
    pub(super) fn new(etag: String, body: Bytes, options: &PutOptions, now: Timestamp) -> Self {
        Self { etag, version_id: None, body, options: options.clone(), last_modified: now }
    }

    pub(super) fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            etag: self.etag.clone(),
            version_id: self.version_id.clone(),
            size: self.body.len() as u64,
            // The content type that S3 stores if none was sent.
            content_type: Some(
                self.options.content_type.clone().unwrap_or("binary/octet-stream".into()),
            ),
            content_encoding: self.options.content_encoding.clone(),
            checksums: self
                .options
                .checksum
                .clone()
                .into_iter()
                .filter(is_returned_by_head)
                .collect(),
            last_modified: Some(self.last_modified),
            keyed: self.options.object.sse.is_some_and(Sse::has_key),
            sse: self.options.object.sse.map(|sse| sse.name().to_owned()),
            locked: false,
            metadata: self.options.metadata.clone(),
        }
    }
}

impl StoredPart {
    pub(super) fn part(&self, number: u16) -> Part {
        Part {
            number,
            etag: hex::encode(self.md5),
            size: self.body.len() as u64,
            last_modified: Some(self.last_modified),
            checksum: None,
        }
    }
}

impl Multipart {
    /// Creates the object from exactly these parts. The errors are those of S3 (API reference,
    /// `CompleteMultipartUpload`).
    pub(super) fn assemble(
        &self,
        parts: &[Part],
        min_part_size: u64,
        now: Timestamp,
    ) -> Result<Object> {
        if parts.is_empty() {
            return Err(refused("MalformedXML"));
        }
        if !parts.windows(2).all(|pair| pair[0].number < pair[1].number) {
            return Err(refused("InvalidPartOrder"));
        }
        let mut body = BytesMut::new();
        let mut digests = Md5::new();
        for (n, part) in parts.iter().enumerate() {
            let stored = self.parts.get(&part.number).ok_or_else(|| refused("InvalidPart"))?;
            if hex::encode(stored.md5) != part.etag {
                return Err(refused("InvalidPart"));
            }
            if n + 1 < parts.len() && (stored.body.len() as u64) < min_part_size {
                return Err(refused("EntityTooSmall"));
            }
            body.extend_from_slice(&stored.body);
            digests.update(stored.md5);
        }
        let etag = format!("{}-{}", hex::encode(digests.finalize()), parts.len());
        let body = body.freeze();
        let sum = self.options.checksum.as_ref();
        let checksum = sum.map(|sum| Checksum::of(sum.algorithm(), &body));
        let options = PutOptions { checksum, ..self.options.clone() };
        Ok(Object::new(etag, body, &options, now))
    }
}

impl State {
    pub(super) fn write(&mut self, key: &str, mut object: Object) -> Written {
        if self.keeps_versions {
            let id = self.new_version();
            object.version_id = Some(id.clone());
            self.versions.entry(key.to_owned()).or_default().push((id, Some(object.clone())));
        }
        let written = Written { etag: object.etag.clone(), version_id: object.version_id.clone() };
        self.objects.insert(key.to_owned(), object);
        written
    }

    fn new_version(&mut self) -> String {
        self.created += 1;
        format!("version-{:08}", self.created)
    }

    /// Hides a key behind a delete marker.
    pub(super) fn hide(&mut self, key: &str) {
        let id = self.new_version();
        self.versions.entry(key.to_owned()).or_default().push((id, None));
        self.objects.remove(key);
    }

    /// The metadata of one version.
    pub(super) fn version(&self, key: &str, id: &str) -> Option<ObjectMeta> {
        let (_, object) = self.versions.get(key)?.iter().find(|(version, _)| version == id)?;
        object.as_ref().map(Object::meta)
    }

    /// Removes one version; the newest of the others becomes the current one.
    pub(super) fn remove_version(&mut self, key: &str, id: &str) {
        let Some(versions) = self.versions.get_mut(key) else { return };
        versions.retain(|(version, _)| version != id);
        match versions.last().and_then(|(_, object)| object.clone()) {
            Some(current) => self.objects.insert(key.to_owned(), current),
            None => self.objects.remove(key),
        };
    }

    /// Removes a key with all its versions.
    pub(super) fn remove(&mut self, key: &str) {
        self.objects.remove(key);
        self.versions.remove(key);
    }

    pub(super) fn matching(&self, key: &str, if_match: &str) -> Result<Bytes> {
        let object = self.objects.get(key).filter(|object| object.etag == if_match);
        object.map(|object| object.body.clone()).ok_or(StoreError::PreconditionFailed)
    }

    pub(super) fn multipart(&mut self, key: &str, upload_id: &str) -> Result<&mut Multipart> {
        let id = (key.to_owned(), upload_id.to_owned());
        self.multiparts.get_mut(&id).ok_or(StoreError::NoSuchMultipart)
    }

    /// A page in byte order of the keys. The token is the last key of the previous page.
    pub(super) fn page(&self, request: &ListRequest, failure: Option<ListFailure>) -> ListPage {
        let limit = if request.limit == 0 { MAX_PAGE } else { request.limit.min(MAX_PAGE) };
        let token = request.token.as_ref().filter(|_| failure != Some(ListFailure::Repeat));
        let after = token.or(request.start_after.as_ref());
        let begin = match after {
            Some(after) if *after >= request.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(request.prefix.as_str()),
        };
        let mut keys = self
            .objects
            .range::<str, _>((begin, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&request.prefix));
        let mut objects: Vec<_> = keys
            .by_ref()
            .take(limit)
            .map(|(key, object)| Listed {
                key: key.clone(),
                etag: object.etag.clone(),
                size: object.body.len() as u64,
                last_modified: Some(object.last_modified),
            })
            .collect();
        let more = keys.next().is_some() && failure != Some(ListFailure::CutOff);
        let next = objects.last().filter(|_| more).map(|last| last.key.clone());
        if failure == Some(ListFailure::Descend) {
            objects.reverse();
        }
        ListPage { objects, next }
    }
}
