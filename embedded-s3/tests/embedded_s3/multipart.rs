use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::support::{BUCKET, MIB, TestServer, code_of, default_client, for_a_minute, start};

const KEY: &str = "big";

struct Upload<'a> {
    s3: &'a TestServer,
    id: String,
}

impl<'a> Upload<'a> {
    async fn begin(s3: &'a TestServer) -> Self {
        let create = s3.client.create_multipart_upload().bucket(BUCKET).key(KEY);
        let created = create.content_type("audio/flac").metadata("a", "1").send().await.unwrap();
        Self { s3, id: created.upload_id.unwrap() }
    }

    async fn part(&self, number: i32, body: Vec<u8>) -> CompletedPart {
        let part = self.s3.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&self.id);
        let sent = part.part_number(number).body(body.into()).send().await.unwrap();
        CompletedPart::builder().part_number(number).e_tag(sent.e_tag.unwrap()).build()
    }

    fn complete(
        &self,
        parts: &[&CompletedPart],
    ) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder
    {
        let parts = parts.iter().map(|part| (*part).clone()).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.s3.client.complete_multipart_upload().bucket(BUCKET).key(KEY);
        complete.upload_id(&self.id).multipart_upload(parts)
    }

    async fn refused(&self, parts: &[&CompletedPart], code: &str) {
        assert_eq!(code_of(&self.complete(parts).send().await.unwrap_err()), code);
    }
}

fn body(seed: u8, length: usize) -> Vec<u8> {
    (0..253).map(|n: u8| seed.wrapping_add(n)).cycle().take(length).collect()
}

#[tokio::test]
async fn parts_become_an_object_with_a_composite_etag() {
    let s3 = start().await;
    let upload = Upload::begin(&s3).await;
    let (first, second, last) = (body(1, 5 * MIB), body(2, 5 * MIB + 7), body(3, 11));
    // The parts are sent in another order, and part 2 is sent twice.
    let three = upload.part(30, last.clone()).await;
    upload.part(2, body(9, 5 * MIB)).await;
    let one = upload.part(1, first.clone()).await;
    let two = upload.part(2, second.clone()).await;
    let done = upload.complete(&[&one, &two, &three]).send().await.unwrap();

    let mut md5 = Md5::new();
    for part in [&first, &second, &last] {
        md5.update(Md5::digest(part));
    }
    let etag = format!("\"{}-3\"", hex::encode(md5.finalize()));
    assert_eq!(done.e_tag(), Some(etag.as_str()));
    let got = s3.client.get_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    assert_eq!(got.e_tag(), Some(etag.as_str()));
    assert_eq!(got.content_type(), Some("audio/flac"));
    assert_eq!(got.metadata().unwrap()["a"], "1");
    assert!(got.body.collect().await.unwrap().to_vec() == [first, second.clone(), last].concat());

    let part = s3.client.get_object().bucket(BUCKET).key(KEY).part_number(2);
    let part = part.send().await.unwrap();
    assert_eq!(part.parts_count(), Some(3));
    assert!(part.body.collect().await.unwrap().to_vec() == second);
    assert_eq!(s3.files(), (1, 0), "files of parts remain");
    upload.refused(&[&one, &two, &three], "NoSuchUpload").await;
}

#[tokio::test]
async fn parts_that_the_completion_does_not_list_are_deleted() {
    let s3 = start().await;
    let upload = Upload::begin(&s3).await;
    upload.part(1, body(1, 10)).await;
    let two = upload.part(2, body(2, 10)).await;
    upload.complete(&[&two]).send().await.unwrap();
    assert!(s3.read(KEY).await.unwrap() == body(2, 10));
    assert_eq!(s3.files(), (1, 0));
}

#[tokio::test]
async fn a_refused_completion_changes_nothing_and_the_upload_can_still_be_completed() {
    let s3 = start().await;
    let etag = s3.put(KEY, b"old").await;
    let upload = Upload::begin(&s3).await;
    let one = upload.part(1, body(1, 5 * MIB)).await;
    let two = upload.part(2, body(2, 100)).await;
    let three = upload.part(3, body(3, 100)).await;
    let wrong = CompletedPart::builder().part_number(2).e_tag(one.e_tag().unwrap()).build();
    let absent = CompletedPart::builder().part_number(9).e_tag(one.e_tag().unwrap()).build();
    upload.refused(&[&two, &one], "InvalidPartOrder").await;
    upload.refused(&[&one, &one], "InvalidPartOrder").await;
    upload.refused(&[&one, &wrong], "InvalidPart").await;
    upload.refused(&[&one, &absent], "InvalidPart").await;
    upload.refused(&[&two, &three], "EntityTooSmall").await;
    upload.refused(&[], "MalformedXML").await;
    let exists = upload.complete(&[&one, &two]).if_none_match("*").send().await.unwrap_err();
    assert_eq!(code_of(&exists), "PreconditionFailed");
    let other = upload.complete(&[&one, &two]).if_match("\"other\"").send().await.unwrap_err();
    assert_eq!(code_of(&other), "PreconditionFailed");
    assert_eq!(s3.read(KEY).await.as_deref(), Some(&b"old"[..]));
    assert_eq!(s3.files(), (4, 0));
    upload.complete(&[&one, &two]).if_match(etag).send().await.unwrap();
    assert_eq!(s3.files(), (1, 0));
}

#[tokio::test]
async fn parts_are_listed_in_order_page_by_page_with_their_etags() {
    let s3 = start().await;
    let upload = Upload::begin(&s3).await;
    let mut sent = Vec::new();
    for number in [5, 1, 10_000, 3] {
        sent.push(upload.part(number, body(1, usize::try_from(number).unwrap())).await);
    }
    sent.sort_by_key(CompletedPart::part_number);
    let mut listed = Vec::new();
    let mut marker = None;
    loop {
        let list = s3.client.list_parts().bucket(BUCKET).key(KEY).upload_id(&upload.id);
        let page = list.max_parts(3).set_part_number_marker(marker).send().await.unwrap();
        for part in page.parts() {
            assert_eq!(part.size().map(Some), Some(part.part_number().map(i64::from)));
            let found = CompletedPart::builder().set_part_number(part.part_number());
            listed.push(found.set_e_tag(part.e_tag().map(str::to_owned)).build());
        }
        marker = page.next_part_number_marker;
        if page.is_truncated != Some(true) {
            break;
        }
    }
    assert_eq!(listed, sent);
}

#[tokio::test]
async fn an_aborted_upload_is_gone_with_its_parts() {
    let s3 = start().await;
    let upload = Upload::begin(&s3).await;
    let one = upload.part(1, body(1, 10)).await;
    let abort =
        || s3.client.abort_multipart_upload().bucket(BUCKET).key(KEY).upload_id(&upload.id).send();
    abort().await.unwrap();
    assert_eq!(s3.files(), (0, 0));
    assert_eq!(code_of(&abort().await.unwrap_err()), "NoSuchUpload");
    upload.refused(&[&one], "NoSuchUpload").await;
    let part = s3.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&upload.id);
    let error = part.part_number(1).body(body(1, 1).into()).send().await.unwrap_err();
    assert_eq!(code_of(&error), "NoSuchUpload");
    let list = s3.client.list_parts().bucket(BUCKET).key(KEY).upload_id(&upload.id);
    assert_eq!(code_of(&list.send().await.unwrap_err()), "NoSuchUpload");
    assert_eq!(s3.files(), (0, 0));
}

#[tokio::test]
async fn a_part_number_out_of_range_is_refused() {
    let s3 = start().await;
    let upload = Upload::begin(&s3).await;
    for number in [0, 10_001, -1] {
        let part = s3.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&upload.id);
        let error = part.part_number(number).body(body(1, 1).into()).send().await.unwrap_err();
        assert_eq!(code_of(&error), "InvalidArgument");
    }
}

#[tokio::test]
async fn unfinished_uploads_are_listed_by_key_and_age_page_by_page() {
    let s3 = start().await;
    let mut expected = Vec::new();
    for key in ["b", "a/2", "a/1", "b", "c", "b"] {
        let create = s3.client.create_multipart_upload().bucket(BUCKET).key(key).send();
        expected.push((key.to_owned(), create.await.unwrap().upload_id.unwrap()));
    }
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    for size in [1, 2, 1000] {
        let mut listed = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let list = s3.client.list_multipart_uploads().bucket(BUCKET).max_uploads(size);
            let list = list.set_key_marker(key_marker).set_upload_id_marker(id_marker);
            let page = list.send().await.unwrap();
            for upload in page.uploads() {
                let (key, id) = (upload.key().unwrap(), upload.upload_id().unwrap());
                listed.push((key.to_owned(), id.to_owned()));
            }
            if page.is_truncated != Some(true) {
                break;
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        }
        assert_eq!(listed, expected);
    }
    let list = s3.client.list_multipart_uploads().bucket(BUCKET).delimiter("/");
    let page = list.send().await.unwrap();
    assert_eq!(page.common_prefixes()[0].prefix(), Some("a/"));
    assert_eq!(page.uploads().len(), 4);
    let list = s3.client.list_multipart_uploads().bucket(BUCKET).prefix("a/");
    assert_eq!(list.send().await.unwrap().uploads().len(), 2);
}

#[tokio::test]
async fn the_composite_checksum_is_computed_from_the_checksums_of_the_parts() {
    let s3 = start().await;
    let create = s3.client.create_multipart_upload().bucket(BUCKET).key(KEY);
    let created = create.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    let upload = Upload { s3: &s3, id: created.upload_id.unwrap() };
    let bodies = [body(1, 5 * MIB), body(2, 3)];
    let mut parts = Vec::new();
    let mut digests = Sha256::new();
    for (number, body) in (1..).zip(&bodies) {
        let digest = Sha256::digest(body);
        digests.update(digest);
        let digest = BASE64_STANDARD.encode(digest);
        let part = || {
            let part = s3.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&upload.id);
            part.part_number(number).body(body.clone().into())
        };
        // A part without the declared checksum, or with a wrong one, is refused.
        let error = part().send().await.unwrap_err();
        assert_eq!(code_of(&error), "InvalidRequest");
        let wrong = BASE64_STANDARD.encode(Sha256::digest(b"other"));
        let error = part().checksum_sha256(wrong).send().await.unwrap_err();
        assert_eq!(code_of(&error), "BadDigest");
        let sent = part().checksum_sha256(&digest).send().await.unwrap();
        let part = CompletedPart::builder().part_number(number).e_tag(sent.e_tag.unwrap());
        parts.push(part.checksum_sha256(digest).build());
    }
    let bare = CompletedPart::builder().part_number(1).e_tag(parts[0].e_tag().unwrap()).build();
    upload.refused(&[&bare, &parts[1]], "InvalidRequest").await;
    let done = upload.complete(&[&parts[0], &parts[1]]).send().await.unwrap();
    let expected = format!("{}-2", BASE64_STANDARD.encode(digests.finalize()));
    assert_eq!(done.checksum_sha256(), Some(expected.as_str()));
    let head = s3.client.head_object().bucket(BUCKET).key(KEY).checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.checksum_sha256(), Some(expected.as_str()));
    assert_eq!(head.checksum_type(), Some(&ChecksumType::Composite));
}

#[tokio::test]
async fn a_full_object_checksum_is_computed_from_all_bytes() {
    let s3 = start().await;
    let whole = [body(1, 5 * MIB), body(2, 1000)].concat();
    let client = default_client(&s3.server.url());
    let put = client.put_object().bucket(BUCKET).key("whole").body(whole.into());
    let put = put.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).send().await.unwrap();
    let upload = Upload::begin(&s3).await;
    let one = upload.part(1, body(1, 5 * MIB)).await;
    let two = upload.part(2, body(2, 1000)).await;
    let wrong = upload.complete(&[&one, &two]).checksum_crc64_nvme("AAAAAAAAAAA=");
    assert_eq!(code_of(&wrong.send().await.unwrap_err()), "BadDigest");
    let wrong = upload.complete(&[&one, &two]).mpu_object_size(1);
    assert_eq!(code_of(&wrong.send().await.unwrap_err()), "InvalidRequest");
    let right = upload.complete(&[&one, &two]).mpu_object_size(5 * 1024 * 1024 + 1000);
    let done = right.send().await.unwrap();
    assert_eq!(done.checksum_crc64_nvme(), put.checksum_crc64_nvme());
    assert_eq!(done.checksum_type(), Some(&ChecksumType::FullObject));

    let create = s3.client.create_multipart_upload().bucket(BUCKET).key(KEY);
    let create = create.checksum_algorithm(ChecksumAlgorithm::Sha256);
    let error = create.checksum_type(ChecksumType::FullObject).send().await.unwrap_err();
    assert_eq!(code_of(&error), "InvalidRequest");
}

#[tokio::test]
async fn a_multipart_upload_of_the_default_sdk_works() {
    let s3 = start().await;
    let client = default_client(&s3.server.url());
    let create = client.create_multipart_upload().bucket(BUCKET).key(KEY);
    let created = create.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await.unwrap();
    let id = created.upload_id.unwrap();
    let part = client.upload_part().bucket(BUCKET).key(KEY).upload_id(&id).part_number(1);
    let part = part.checksum_algorithm(ChecksumAlgorithm::Crc32).body(body(1, 100).into());
    let sent = part.send().await.unwrap();
    let part = CompletedPart::builder().part_number(1).set_e_tag(sent.e_tag);
    let part = part.set_checksum_crc32(sent.checksum_crc32).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(KEY).upload_id(&id);
    complete.multipart_upload(parts).send().await.unwrap();
    assert!(s3.read(KEY).await.unwrap() == body(1, 100));
}

#[tokio::test]
async fn a_part_is_uploaded_by_a_presigned_url_and_copied_from_an_object() {
    let s3 = start().await;
    s3.put("source", b"0123456789").await;
    let upload = Upload::begin(&s3).await;
    let part = s3.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&upload.id);
    let part = part.part_number(1).presigned(for_a_minute()).await.unwrap();
    let first = body(1, 5 * MIB);
    let response = s3.send(&part, &[], first.clone()).await;
    assert_eq!(response.status, 200, "{}", response.body);
    let one = CompletedPart::builder().part_number(1).e_tag(response.header("etag")).build();
    let copy = s3.client.upload_part_copy().bucket(BUCKET).key(KEY).upload_id(&upload.id);
    let copy = copy.part_number(2).copy_source(format!("{BUCKET}/source"));
    let copied = copy.copy_source_range("bytes=2-4").send().await.unwrap();
    let etag = copied.copy_part_result.unwrap().e_tag.unwrap();
    let two = CompletedPart::builder().part_number(2).e_tag(etag).build();
    upload.complete(&[&one, &two]).send().await.unwrap();
    assert!(s3.read(KEY).await.unwrap() == [first, b"234".to_vec()].concat());
}
