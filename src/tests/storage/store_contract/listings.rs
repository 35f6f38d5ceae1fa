use upload_coordinator::storage::ListRequest;

use super::Subject;

/// In byte order: `-` and `.` come before `/`, and capital letters before small letters.
const NAMES: [&str; 9] = ["A", "a-b", "a.b", "a/b", "a/b-c", "a/c/d", "a0", "b", "~"];

async fn fill(on: &Subject) {
    for name in NAMES {
        on.put(&on.key(name), b"abc").await;
    }
}

async fn names(on: &Subject, start: Option<&str>, limit: usize) -> Vec<String> {
    let mut request = ListRequest {
        prefix: on.prefix().to_owned(),
        start_after: start.map(|start| on.key(start)),
        token: None,
        limit,
    };
    let mut names = Vec::new();
    loop {
        let page = on.objects().list(&request).await.unwrap();
        assert!(limit == 0 || page.objects.len() <= limit, "a page is within its limit");
        for object in &page.objects {
            assert_eq!(object.size, 3);
            assert!(!object.etag.is_empty() && !object.etag.contains('"'), "{}", object.etag);
            assert!(object.last_modified.is_some());
            names.push(object.key.strip_prefix(on.prefix()).unwrap().to_owned());
        }
        match page.next {
            Some(token) => request.token = Some(token),
            None => return names,
        }
        assert!(names.len() <= NAMES.len(), "endless pages: {names:?}");
    }
}

pub async fn pages_cover_every_key_once(on: &Subject) {
    fill(on).await;
    for limit in [0, 1, 2, 4, 9, 10] {
        let mut listed = names(on, None, limit).await;
        listed.sort();
        assert_eq!(listed, NAMES, "{limit} to a page");
    }
}

pub async fn pages_ascend_where_the_store_orders(on: &Subject) {
    fill(on).await;
    for limit in [0, 2] {
        let listed = names(on, None, limit).await;
        assert_eq!(listed == NAMES, on.capabilities().list_order, "{listed:?}");
    }
}

pub async fn a_listing_may_begin_behind_any_text_where_the_store_can(on: &Subject) {
    fill(on).await;
    let mut exact = true;
    for start in
        ["", "A", "B", "a", "a-b", "a-c", "a.", "a/", "a/b", "a/b-", "a/z", "aa", "z", "~~"]
    {
        for limit in [0, 2] {
            let mut listed = names(on, Some(start), limit).await;
            listed.sort();
            let expected: Vec<_> = NAMES.into_iter().filter(|name| *name > start).collect();
            let same = listed == expected;
            assert!(
                same || !on.capabilities().start_after,
                "behind {start:?}: {listed:?}, not {expected:?}"
            );
            exact &= same;
        }
    }
    assert_eq!(exact, on.capabilities().start_after, "the capability is understated");
}

pub async fn a_prefix_bounds_the_listing(on: &Subject) {
    fill(on).await;
    for (prefix, expected) in
        [("a/", vec!["a/b", "a/b-c", "a/c/d"]), ("a/b", vec!["a/b", "a/b-c"]), ("b", vec!["b"])]
    {
        let request = ListRequest { prefix: on.key(prefix), ..ListRequest::default() };
        let page = on.objects().list(&request).await.unwrap();
        let listed: Vec<_> =
            page.objects.iter().map(|o| o.key.strip_prefix(on.prefix()).unwrap()).collect();
        assert_eq!((listed, page.next), (expected, None), "{prefix}");
    }
}

pub async fn a_listing_of_nothing_is_empty(on: &Subject) {
    assert!(names(on, None, 0).await.is_empty());
    assert!(names(on, Some("a"), 0).await.is_empty());
}
