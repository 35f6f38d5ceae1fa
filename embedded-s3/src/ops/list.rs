//! Listings: `ListObjects`, `ListObjectsV2` and `ListMultipartUploads`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, MultipartUpload,
    Object, ObjectStorageClass,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use crate::clock::timestamp;
use crate::error::{StoreError, refuse};
use crate::index::{Index, Listed, ListedUpload};
use crate::page::{self, Bound, Entry, MAX_PAGE, Query, Source, prefix_end};
use crate::store::Store;

/// The characters that `encoding-type=url` escapes.
pub(super) const KEY_ESCAPES: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

struct Objects<'a> {
    index: &'a Index,
    bucket_id: i64,
}

impl Source for Objects<'_> {
    type Item = Listed;

    async fn range(
        &self,
        from: &Bound,
        until: &[u8],
        limit: i64,
    ) -> Result<Vec<(Bound, Listed)>, StoreError> {
        self.index.list_objects(self.bucket_id, from, until, limit).await
    }
}

struct Uploads<'a> {
    index: &'a Index,
    bucket_id: i64,
}

impl Source for Uploads<'_> {
    type Item = ListedUpload;

    async fn range(
        &self,
        from: &Bound,
        until: &[u8],
        limit: i64,
    ) -> Result<Vec<(Bound, ListedUpload)>, StoreError> {
        self.index.list_uploads(self.bucket_id, from, until, limit).await
    }
}

/// How names are encoded in the response.
#[derive(Clone, Copy)]
struct Encoding {
    url: bool,
}

impl Encoding {
    fn of(requested: Option<&EncodingType>) -> S3Result<Self> {
        match requested.map(EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some(EncodingType::URL) => Ok(Self { url: true }),
            Some(_) => Err(invalid("Invalid Encoding Method specified in Request")),
        }
    }

    fn text(self, text: &str) -> String {
        if self.url { utf8_percent_encode(text, KEY_ESCAPES).to_string() } else { text.to_owned() }
    }

    /// Encodes a key. Keys are received as text, so they are UTF-8.
    fn key(self, key: &[u8]) -> String {
        self.text(&String::from_utf8_lossy(key))
    }

    fn opt(self, text: Option<String>) -> Option<String> {
        text.map(|text| self.text(&text))
    }
}

fn invalid(message: &str) -> s3s::S3Error {
    refuse(S3ErrorCode::InvalidArgument, message)
}

/// The limit of a page: as the value in the response, and as a number of entries.
fn page_limit(requested: Option<i32>) -> S3Result<(i32, usize)> {
    let requested = requested.unwrap_or(MAX_PAGE);
    let used = usize::try_from(requested.min(MAX_PAGE))
        .map_err(|_| invalid("Argument maxKeys must be an integer between 0 and 2147483647"))?;
    Ok((requested.min(MAX_PAGE), used))
}

/// The start of a listing after a marker. If the marker is a common prefix, the previous page
/// showed that prefix, so the listing continues after all keys in it.
fn after_marker(query: &Query, marker: &str) -> Bound {
    if query.common_prefix(marker.as_bytes()) == Some(marker.as_bytes())
        && marker.starts_with(&query.prefix)
    {
        return Bound::at(prefix_end(marker.as_bytes()));
    }
    Bound::above(marker)
}

fn object(encoding: Encoding, at: &Bound, listed: Listed) -> Object {
    Object {
        e_tag: Some(ETag::Strong(listed.etag)),
        key: Some(encoding.key(&at.key)),
        last_modified: Some(timestamp(listed.modified_ms)),
        size: i64::try_from(listed.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Object::default()
    }
}

/// The objects and the common prefixes of a page, each in order, and the last entry.
struct Shown<T> {
    items: Vec<T>,
    prefixes: Vec<CommonPrefix>,
    last: Bound,
}

fn show<I, T>(
    entries: Vec<Entry<I>>,
    encoding: Encoding,
    mut item: impl FnMut(&Bound, I) -> T,
) -> Shown<T> {
    let mut shown = Shown { items: Vec::new(), prefixes: Vec::new(), last: Bound::default() };
    for entry in entries {
        shown.last = match entry {
            Entry::Item(at, value) => {
                shown.items.push(item(&at, value));
                at
            }
            Entry::CommonPrefix(prefix) => {
                shown.prefixes.push(CommonPrefix { prefix: Some(encoding.key(&prefix)) });
                Bound::at(prefix)
            }
        };
    }
    shown
}

pub(super) async fn list_objects_v2(
    store: &Store,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = request.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let (max_keys, limit) = page_limit(input.max_keys)?;
    let from = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => Bound::from_token(token)
            .ok_or_else(|| invalid("The continuation token provided is incorrect"))?,
        (None, Some(after)) if !after.is_empty() => Bound::above(after),
        (None, _) => Bound::default(),
    };
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        from,
        limit,
    };
    let bucket_id = store.index().bucket(&input.bucket).await?;
    let page = page::read(&Objects { index: store.index(), bucket_id }, &query).await?;
    let Shown { items, prefixes, .. } =
        show(page.entries, encoding, |at, listed| object(encoding, at, listed));
    let next = page.next.as_ref().map(Bound::to_token);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: encoding.opt(Some(query.prefix)),
        max_keys: Some(max_keys),
        key_count: i32::try_from(items.len() + prefixes.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(next.is_some()),
        next_continuation_token: next,
        contents: Some(items),
        common_prefixes: Some(prefixes),
        delimiter: encoding.opt(input.delimiter),
        encoding_type: input.encoding_type,
        start_after: encoding.opt(input.start_after),
        ..ListObjectsV2Output::default()
    }))
}

pub(super) async fn list_objects(
    store: &Store,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = request.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let (max_keys, limit) = page_limit(input.max_keys)?;
    let mut query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        from: Bound::default(),
        limit,
    };
    if let Some(marker) = input.marker.as_deref().filter(|marker| !marker.is_empty()) {
        query.from = after_marker(&query, marker);
    }
    let bucket_id = store.index().bucket(&input.bucket).await?;
    let page = page::read(&Objects { index: store.index(), bucket_id }, &query).await?;
    let truncated = page.next.is_some();
    let Shown { items, prefixes, last } =
        show(page.entries, encoding, |at, listed| object(encoding, at, listed));
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: encoding.opt(Some(query.prefix)),
        marker: encoding.opt(Some(input.marker.unwrap_or_default())),
        max_keys: Some(max_keys),
        is_truncated: Some(truncated),
        contents: Some(items),
        common_prefixes: Some(prefixes),
        // S3 sends it only if there is a delimiter. Otherwise the last key is the next marker.
        next_marker: (truncated && input.delimiter.is_some()).then(|| encoding.key(&last.key)),
        delimiter: encoding.opt(input.delimiter),
        encoding_type: input.encoding_type,
        ..ListObjectsOutput::default()
    }))
}

pub(super) async fn list_multipart_uploads(
    store: &Store,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = request.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let (max_uploads, limit) = page_limit(input.max_uploads)?;
    let mut query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        from: Bound::default(),
        limit,
    };
    if let Some(marker) = input.key_marker.as_deref().filter(|marker| !marker.is_empty()) {
        query.from = match input.upload_id_marker.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => Bound { key: marker.as_bytes().to_vec(), id: id.to_owned() }.successor(),
            None => after_marker(&query, marker),
        };
    }
    let bucket_id = store.index().bucket(&input.bucket).await?;
    let page = page::read(&Uploads { index: store.index(), bucket_id }, &query).await?;
    let truncated = page.next.is_some();
    let Shown { items, prefixes, last } =
        show(page.entries, encoding, |at, listed: ListedUpload| MultipartUpload {
            checksum_algorithm: Some(listed.algorithm.to_dto()),
            checksum_type: Some(listed.kind.to_dto()),
            initiated: Some(timestamp(listed.initiated_ms)),
            key: Some(encoding.key(&at.key)),
            upload_id: Some(at.id.clone()),
            ..MultipartUpload::default()
        });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(prefixes),
        delimiter: encoding.opt(input.delimiter),
        encoding_type: input.encoding_type,
        is_truncated: Some(truncated),
        key_marker: encoding.opt(Some(input.key_marker.unwrap_or_default())),
        max_uploads: Some(max_uploads),
        next_key_marker: truncated.then(|| encoding.key(&last.key)),
        next_upload_id_marker: truncated.then_some(last.id),
        prefix: encoding.opt(Some(query.prefix)),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        uploads: Some(items),
        ..ListMultipartUploadsOutput::default()
    }))
}
