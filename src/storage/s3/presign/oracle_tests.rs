//! The AWS libraries as oracles: `aws-sigv4` for the signature, and aws-sdk-s3's `.presigned()` for
//! whole requests.
//!
//! Some things cannot be compared directly. The SDK adds `x-id=PutObject` to the query, so these
//! tests sign it too. It writes the parameters in another order, so they are compared as a set. It
//! has no `.presigned()` for `CreateMultipartUpload`, `CompleteMultipartUpload` and forms; the
//! contract suite tests these on real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::ChecksumAlgorithm;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::domain::checksum::Algorithm;
use crate::domain::object_settings::{ObjectSettings, Sse};
use crate::storage::signer::{PartRequest, PutRequest};

#[derive(Debug, Clone)]
struct World {
    endpoint: Option<&'static str>,
    path_style: bool,
    bucket: &'static str,
    secret: String,
    token: Option<String>,
    now: Timestamp,
    seconds: i64,
    key: String,
}

fn worlds() -> impl Strategy<Value = World> {
    let endpoint = prop_oneof![
        Just(None),
        Just(Some("http://localhost:9000")),
        Just(Some("https://s3.example.com")),
        Just(Some("https://s3.example.com:8443")),
        Just(Some("http://127.0.0.1:9000")),
    ];
    let bucket = prop_oneof![Just("music"), Just("my.music"), Just("a-b-3")];
    let key = prop_oneof!["[a-z/]{1,30}", "\\PC{1,40}", "[ -~]{1,60}"].prop_filter(
        "keys that can be signed",
        |key| {
            // For the SDK, a blank key is a missing key.
            !key.trim().is_empty()
                && !key.starts_with('/')
                && !key.split('/').any(|s| s == "." || s == "..")
        },
    );
    (
        (endpoint, any::<bool>(), bucket),
        "[A-Za-z0-9/+]{1,80}",
        prop::option::of("[A-Za-z0-9/+=]{1,300}"),
        (0i64..4_000_000_000, 1i64..604_800),
        key,
    )
        .prop_map(|((endpoint, path_style, bucket), secret, token, (second, seconds), key)| {
            World {
                endpoint,
                path_style,
                bucket,
                secret,
                token,
                now: Timestamp::from_timestamp(second, 0).unwrap(),
                seconds,
                key,
            }
        })
}

fn options() -> impl Strategy<Value = PutRequest> {
    let value = "[!-~][ -~]{0,20}[!-~]";
    (
        prop::option::of(value),
        prop::option::of(any::<u32>()),
        prop::option::of((prop::sample::select(Algorithm::ALL.to_vec()), any::<[u8; 4]>())),
        any::<bool>(),
        prop::collection::btree_map("[a-z][a-z0-9-]{0,9}", value, 0..4),
    )
        .prop_map(|(content_type, length, checksum, write_once, metadata)| PutRequest {
            content_type,
            content_length: length.map(u64::from),
            checksum: checksum.map(|(algorithm, bytes)| Checksum::of(algorithm, &bytes)),
            write_once,
            metadata,
            object: ObjectSettings::default(),
        })
        .prop_flat_map(|options| {
            objects().prop_map(move |object| PutRequest { object, ..options.clone() })
        })
}

fn objects() -> impl Strategy<Value = ObjectSettings> {
    let sse = prop::option::of(prop::sample::select(vec![Sse::Aes256, Sse::Kms, Sse::KmsDsse]));
    let text = || prop::option::of("[!-~]([ -~]{0,20}[!-~])?");
    let tags = prop::collection::btree_map("[a-z /+=]{1,9}", "[ A-Za-zäß+=/@]{0,9}", 0..4);
    (sse, text(), prop::option::of("[A-Z_]{1,12}"), text(), tags).prop_map(
        |(sse, kms_key_id, storage_class, cache_control, tags)| ObjectSettings {
            sse,
            kms_key_id,
            storage_class,
            cache_control,
            tags,
        },
    )
}

impl World {
    fn credentials(&self) -> Credentials {
        Credentials::new("AKIDEXAMPLE", &self.secret, self.token.clone(), None, "test")
    }

    fn presigner(&self) -> Presigner {
        let endpoint = self.endpoint.map(|url| Url::parse(url).unwrap());
        let target =
            Target::new(endpoint.as_ref(), "eu-west-1", self.bucket, self.path_style).unwrap();
        Presigner::new(target, SharedCredentialsProvider::new(self.credentials()))
    }

    fn sdk(&self) -> Client {
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(self.credentials())
            .force_path_style(self.path_style)
            .http_client(crate::net::http_client())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        if let Some(endpoint) = self.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Client::from_conf(config.build())
    }

    fn sdk_options(&self) -> PresigningConfig {
        PresigningConfig::builder()
            .start_time(SystemTime::from(self.now))
            .expires_in(Duration::from_secs(self.seconds.unsigned_abs()))
            .build()
            .unwrap()
    }

    fn expires_in(&self) -> TimeDelta {
        TimeDelta::seconds(self.seconds)
    }
}

/// The signature by aws-sigv4 of the same request.
fn oracle(world: &World, signed: &SignedRequest, content_length: Option<u64>) -> String {
    let settings = {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(world.seconds.unsigned_abs()));
        settings
    };
    let identity = world.credentials().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("s3")
        .time(SystemTime::from(world.now))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    // aws-sigv4 adds the `X-Amz-` parameters itself.
    let (bare, query) = signed.url.split_once('?').unwrap();
    let own: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-")).collect();
    let url = if own.is_empty() { bare.to_owned() } else { format!("{bare}?{}", own.join("&")) };
    let length = content_length.map(|length| length.to_string());
    let headers = signed.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let headers = headers.chain(length.as_deref().map(|length| ("content-length", length)));
    let request =
        SignableRequest::new(signed.method, url, headers, SignableBody::UnsignedPayload).unwrap();
    sign(request, &params).unwrap().into_parts().1
}

fn signature(url: &str) -> &str {
    url.split_once("X-Amz-Signature=").unwrap().1
}

fn same_request(ours: &SignedRequest, theirs: &PresignedRequest) -> Result<(), TestCaseError> {
    let parts = |url: &str| {
        let (bare, query) = url.split_once('?').unwrap();
        let pairs: BTreeSet<String> = query.split('&').map(str::to_owned).collect();
        (bare.to_owned(), pairs)
    };
    prop_assert_eq!(parts(&ours.url), parts(theirs.uri()));
    prop_assert_eq!(ours.method, theirs.method());
    let headers: BTreeMap<_, _> = theirs
        .headers()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| (name.to_owned(), header_value(value).unwrap()))
        .collect();
    prop_assert_eq!(&ours.headers, &headers);
    Ok(())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn puts_are_signed_as_aws_sigv4_signs_them(world in worlds(), options in options()) {
        let signer = world.presigner();
        let signed = run(signer.put(&world.key, &options, world.now, world.expires_in())).unwrap();
        prop_assert_eq!(signature(&signed.url), oracle(&world, &signed, options.content_length));
    }

    #[test]
    fn other_requests_are_signed_as_aws_sigv4_signs_them(
        world in worlds(),
        options in options(),
        text in "\\PC{0,40}",
        number in 1u16..=10_000,
    ) {
        let (signer, key) = (world.presigner(), &world.key);
        let (now, expires_in) = (world.now, world.expires_in());
        let get = GetRequest {
            content_disposition: Some(text.clone()),
            content_type: options.content_type.clone(),
            cache_control: Some(text.clone()),
            content_language: Some(text.clone()),
            version_id: Some(text.clone()),
        };
        let part = PartRequest { content_length: options.content_length, checksum: options.checksum.clone() };
        let (upload_id, write_once) = (text.as_str(), options.write_once);
        for (operation, length) in [
            (Operation::Get(&get), None),
            (Operation::UploadPart { upload_id, number, request: &part }, part.content_length),
            (Operation::CreateMultipart(&options), None),
            (Operation::ListParts { upload_id }, None),
            (Operation::CompleteMultipart { upload_id, write_once }, None),
            (Operation::AbortMultipart { upload_id }, None),
        ] {
            let signed = run(signer.sign(key, operation, now, expires_in)).unwrap();
            prop_assert_eq!(signature(&signed.url), oracle(&world, &signed, length));
        }
    }

    #[test]
    fn a_put_is_the_one_that_the_sdk_signs(world in worlds(), options in options()) {
        let mut headers = described(&options).unwrap();
        push_length(&mut headers, options.content_length);
        push_checksum(&mut headers, options.checksum.as_ref());
        if options.write_once {
            headers.push(("if-none-match".into(), "*".into()));
        }
        let ours = run(world.presigner().sign_url(
            "PUT", &world.key, headers, &[("x-id", "PutObject")], world.now, world.expires_in(),
        )).unwrap();

        let mut put = world.sdk().put_object().bucket(world.bucket).key(&world.key)
            .set_content_type(options.content_type.clone())
            .set_content_length(options.content_length.map(u64::cast_signed))
            .set_if_none_match(options.write_once.then(|| "*".to_owned()))
            .set_server_side_encryption(options.object.sse.map(|sse| sse.name().into()))
            .set_ssekms_key_id(options.object.kms_key_id.clone())
            .set_storage_class(options.object.storage_class.as_deref().map(Into::into))
            .set_cache_control(options.object.cache_control.clone())
            .set_tagging(object_headers::tagging(&options.object));
        for (name, value) in &options.metadata {
            put = put.metadata(name, value);
        }
        if let Some(checksum) = &options.checksum {
            let value = Some(checksum.value());
            put = match checksum.algorithm() {
                Algorithm::Sha256 => put.set_checksum_sha256(value),
                Algorithm::Crc32 => put.set_checksum_crc32(value),
                Algorithm::Crc32c => put.set_checksum_crc32_c(value),
                Algorithm::Crc64nvme => put.set_checksum_crc64_nvme(value),
                Algorithm::Md5 => put.set_content_md5(value),
            };
            put = put.set_checksum_algorithm(checksum.algorithm().sdk_name().map(ChecksumAlgorithm::from));
        }
        same_request(&ours, &run(put.presigned(world.sdk_options())).unwrap())?;
    }

    #[test]
    fn a_get_is_the_one_that_the_sdk_signs(world in worlds(), name in "\\PC{1,30}") {
        let query = [("response-content-disposition", name.as_str()), ("versionId", "v 1"), ("x-id", "GetObject")];
        let ours = run(world.presigner().sign_url(
            "GET", &world.key, Vec::new(), &query, world.now, world.expires_in(),
        )).unwrap();
        let get = world.sdk().get_object().bucket(world.bucket).key(&world.key)
            .response_content_disposition(&name).version_id("v 1");
        same_request(&ours, &run(get.presigned(world.sdk_options())).unwrap())?;
    }

    #[test]
    fn a_part_is_the_one_that_the_sdk_signs(world in worlds(), id in "[ -~]{1,40}", number in 1u16..=10_000) {
        let text = number.to_string();
        let query = [("partNumber", text.as_str()), ("uploadId", id.as_str()), ("x-id", "UploadPart")];
        let ours = run(world.presigner().sign_url(
            "PUT", &world.key, Vec::new(), &query, world.now, world.expires_in(),
        )).unwrap();
        let part = world.sdk().upload_part().bucket(world.bucket).key(&world.key)
            .upload_id(&id).part_number(i32::from(number));
        same_request(&ours, &run(part.presigned(world.sdk_options())).unwrap())?;
    }
}

/// The speed of the service's signature and of the SDK's, in this build: `cargo test --lib
/// signing_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn signing_speed() {
    let world = World {
        endpoint: Some("https://s3.example.com"),
        path_style: true,
        bucket: "music",
        secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        token: None,
        now: "2026-11-23T10:00:00Z".parse().unwrap(),
        seconds: 3600,
        key: "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef".into(),
    };
    let options = PutRequest {
        content_type: Some("audio/mpeg".into()),
        content_length: Some(12_345_678),
        checksum: Some(Checksum::of(Algorithm::Sha256, b"abc")),
        write_once: true,
        ..PutRequest::default()
    };
    run(async {
        let (signer, sdk) = (world.presigner(), world.sdk());
        let rounds = 2000u32;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            signer.put(&world.key, &options, world.now, world.expires_in()).await.unwrap();
        }
        let ours = start.elapsed() / rounds;
        let start = std::time::Instant::now();
        for _ in 0..rounds / 10 {
            sdk.put_object()
                .bucket("music")
                .key(&world.key)
                .content_type("audio/mpeg")
                .presigned(world.sdk_options())
                .await
                .unwrap();
        }
        println!("ours {ours:?}, the SDK's {:?}", start.elapsed() / (rounds / 10));
    });
}
