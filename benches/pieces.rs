//! Measures single steps of a request or a run. Run it with `cargo bench --bench pieces`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::presigning::PresigningConfig;
use chrono::TimeDelta;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{TryStreamExt as _, stream};
use rusty_s3::{Bucket, S3Action as _, UrlStyle};
use upload_coordinator::domain::reconcile::Listed;
use upload_coordinator::domain::{
    Clock, IdSource as _, Prefix, UploadId, clock, ids, media, sniff,
};
use upload_coordinator::reconcile::merge::merge;
use upload_coordinator::storage::s3::{Presigner, Target};
use upload_coordinator::storage::signer::{PutRequest, Signer as _};

const ENDPOINT: &str = "https://s3.eu-central-1.amazonaws.com";
const REGION: &str = "eu-central-1";
const KEY: &str = "tracks/c/0198f2b4-5b1e-7cc3-98c4-dc0c0c07398c";
const TTL: u32 = 3600;

/// Presigns a PUT with a content type and a length, with three libraries.
fn signing(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut group = c.benchmark_group("sign a PUT");

    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "bench");
    let endpoint = ENDPOINT.parse().expect("a URL");
    let target = Target::new(Some(&endpoint), REGION, "music", true).expect("a target");
    let ours = Presigner::new(target, SharedCredentialsProvider::new(credentials.clone()));
    let request = PutRequest {
        content_type: Some("audio/mpeg".to_owned()),
        content_length: Some(4_194_304),
        ..PutRequest::default()
    };
    let now = clock::SystemClock.now();
    let ttl = TimeDelta::seconds(i64::from(TTL));
    group.bench_function("upload-coordinator", |b| {
        b.iter(|| runtime.block_on(ours.put(black_box(KEY), &request, now, ttl)).expect("signed"));
    });

    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials)
        .region(Region::new(REGION))
        .endpoint_url(ENDPOINT)
        .force_path_style(true)
        .build();
    let sdk = aws_sdk_s3::Client::from_conf(config);
    group.bench_function("aws-sdk-s3", |b| {
        b.iter(|| {
            let presigning = PresigningConfig::builder()
                .expires_in(Duration::from_secs(TTL.into()))
                .start_time(SystemTime::from(now))
                .build()
                .expect("a config");
            let put = sdk.put_object().bucket("music").key(black_box(KEY));
            let put = put.content_type("audio/mpeg").content_length(4_194_304);
            runtime.block_on(put.presigned(presigning)).expect("signed")
        });
    });

    let endpoint = ENDPOINT.parse().expect("a URL");
    let bucket = Bucket::new(endpoint, UrlStyle::Path, "music", REGION).expect("a bucket");
    let credentials = rusty_s3::Credentials::new("AKIDEXAMPLE", "secret");
    group.bench_function("rusty-s3", |b| {
        b.iter(|| {
            let mut put = bucket.put_object(Some(&credentials), black_box(KEY));
            put.headers_mut().insert("content-type", "audio/mpeg");
            put.headers_mut().insert("content-length", "4194304");
            put.sign(Duration::from_secs(TTL.into()))
        });
    });
    group.finish();
}

fn keys(c: &mut Criterion) {
    let prefix = Prefix::parse("tracks/").expect("a prefix");
    let id = UploadId(ids::SystemIds.uuid());
    let key = prefix.key(id);
    c.bench_function("new id", |b| b.iter(|| UploadId(ids::SystemIds.uuid())));
    c.bench_function("key of an id", |b| b.iter(|| prefix.key(black_box(id))));
    c.bench_function("id of a key", |b| b.iter(|| prefix.parse_key(black_box(key.as_str()))));
}

fn join(c: &mut Criterion) {
    const ITEMS: u64 = 10_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let etag: Arc<str> = "9b2cf535f27731c974343645a3985328".into();
    let side = |step: u64| -> Vec<Listed> {
        (0..ITEMS)
            .map(|n| Listed {
                key: format!("tracks/{:020}", n * step),
                size: 4_194_304,
                etag: etag.to_string(),
                last_modified: None,
            })
            .collect()
    };
    let (left, right) = (side(2), side(3));
    let mut group = c.benchmark_group("merge");
    group.throughput(Throughput::Elements(2 * ITEMS));
    group.bench_function("two streams of 10,000", |b| {
        b.iter_batched(
            || (left.clone(), right.clone()),
            |(left, right)| {
                let ok = |side: Vec<Listed>| stream::iter(side.into_iter().map(Ok::<_, Never>));
                let pairs = merge(ok(left), ok(right));
                let count = pairs.try_fold(0_u64, |count, _| async move { Ok(count + 1) });
                runtime.block_on(count).expect("both ascend")
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

type Never = std::convert::Infallible;

fn sniffing(c: &mut Criterion) {
    let mut head = b"ID3\x04\0\0\0\0\0\x0a".to_vec();
    head.resize(sniff::SNIFF_LEN, 0);
    c.bench_function("sniff 16 KiB", |b| b.iter(|| sniff::media_type(black_box(&head))));
}

/// The headers of a song of 4 minutes with a cover of 60 KiB: the head, and the end of the file.
fn media_headers(c: &mut Criterion) {
    let mut head = b"ID3\x03\0\0\0\x03\x60\x0aAPIC\0\0\xf0\0\0\0".to_vec();
    head.resize(20 + 0xf000, 1);
    let mut frame = vec![0xff, 0xfb, 0x90, 0x64];
    frame.resize(417, 0x55);
    let song = [head, frame.repeat(9188)].concat();
    let head = usize::try_from(media::HEAD_LEN).expect("small");
    let mut parts = media::Parts::new(song.len() as u64, song[..head].to_vec().into());
    while let media::Step::Read(range) = media::inspect(&parts) {
        let at = |at| usize::try_from(at).expect("small");
        let bytes = song[at(range.start)..at(range.end)].to_vec();
        parts.add(range.start, bytes.into());
    }
    c.bench_function("media headers of an MP3", |b| b.iter(|| media::inspect(black_box(&parts))));
}

criterion_group!(benches, signing, keys, join, sniffing, media_headers);
criterion_main!(benches);
