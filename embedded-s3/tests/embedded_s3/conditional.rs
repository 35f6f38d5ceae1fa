use super::support::{BUCKET, MIB, code_of, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_of_sixteen_concurrent_creates_succeeds() {
    let s3 = start().await;
    for round in 0..5 {
        let key = format!("raced-{round}");
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..16_u8 {
            let put = s3.client.put_object().bucket(BUCKET).key(&key).if_none_match("*");
            racers.spawn(put.body(vec![racer; 2 * MIB].into()).send());
        }
        let mut winners = Vec::new();
        while let Some(result) = racers.join_next().await {
            match result.unwrap() {
                Ok(put) => winners.push(put.e_tag.unwrap()),
                Err(error) => assert_eq!(code_of(&error), "PreconditionFailed"),
            }
        }
        assert_eq!(winners.len(), 1);
        let head = s3.client.head_object().bucket(BUCKET).key(&key).send().await.unwrap();
        assert_eq!(head.e_tag(), Some(winners[0].as_str()));
    }
    assert_eq!(s3.files(), (5, 0), "refused creates left files behind");
}

#[tokio::test]
async fn a_put_with_if_match_replaces_only_the_object_with_that_etag() {
    let s3 = start().await;
    let first = s3.put("k", b"first").await;
    let put = |etag: &str, body: &'static [u8]| {
        let put = s3.client.put_object().bucket(BUCKET).key("k").if_match(etag);
        put.body(body.to_vec().into()).send()
    };
    put(&first, b"second").await.unwrap();
    assert_eq!(code_of(&put(&first, b"third").await.unwrap_err()), "PreconditionFailed");
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"second"[..]));
    let absent = s3.client.put_object().bucket(BUCKET).key("absent").if_match(&first);
    assert_eq!(code_of(&absent.send().await.unwrap_err()), "NoSuchKey");
}

#[tokio::test]
async fn a_delete_with_if_match_deletes_only_the_object_with_that_etag() {
    let s3 = start().await;
    let etag = s3.put("k", b"x").await;
    let delete = |etag: &str| s3.client.delete_object().bucket(BUCKET).key("k").if_match(etag);
    let error = delete("\"other\"").send().await.unwrap_err();
    assert_eq!(code_of(&error), "PreconditionFailed");
    assert!(s3.read("k").await.is_some());
    delete(&etag).send().await.unwrap();
    assert!(s3.read("k").await.is_none());
}

#[tokio::test]
async fn a_put_with_an_etag_in_if_none_match_is_refused() {
    let s3 = start().await;
    let put = s3.client.put_object().bucket(BUCKET).key("k").if_none_match("\"etag\"");
    assert_eq!(code_of(&put.send().await.unwrap_err()), "NotImplemented");
    assert!(s3.read("k").await.is_none());
}
