//! `/v2/<name>/tags/list`

use oci::media_type::OCI_MANIFEST;

use crate::support::TestRegistry;

/// In byte order.
const TAGS: [&str; 7] = ["1.0", "10", "9", "Z", "_x", "a", "latest"];

async fn registry_with_tags() -> TestRegistry {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    for tag in TAGS.iter().rev() {
        registry.push_manifest("a/b", tag, OCI_MANIFEST, &manifest).await;
    }
    registry
}

#[tokio::test]
async fn all_tags_in_order() {
    let registry = registry_with_tags().await;
    let answer = registry.get("/v2/a/b/tags/list").await.status(200);
    assert_eq!(answer.json()["name"], "a/b");
    assert_eq!(answer.list("tags"), TAGS);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.next_page(), None);
    let head = registry.head("/v2/a/b/tags/list").await.status(200);
    assert_eq!(head.header("content-type"), "application/json");
}

#[tokio::test]
async fn page_by_page_to_the_end() {
    let registry = registry_with_tags().await;
    for size in 1..=8 {
        let mut found = Vec::new();
        let mut target = format!("/v2/a/b/tags/list?n={size}");
        let mut pages = 0;
        loop {
            let answer = registry.get(&target).await.status(200);
            let tags = answer.list("tags");
            assert!(tags.len() <= size && !tags.is_empty(), "no page is empty: {answer}");
            found.extend(tags);
            pages += 1;
            match answer.next_page() {
                Some(next) => target = next,
                None => break,
            }
        }
        assert_eq!(found, TAGS);
        assert_eq!(pages, TAGS.len().div_ceil(size));
    }
}

#[tokio::test]
async fn last_need_not_exist() {
    let registry = registry_with_tags().await;
    for (query, expected) in [
        ("last=9", &TAGS[3..]),
        ("last=1.0zzz", &TAGS[1..]),
        ("last=", &TAGS[..]),
        ("last=zzz", &[]),
        ("last=%00", &TAGS[..]),
        ("last=%F0%9F%9A%A2", &[]),
        ("n=2&last=10", &TAGS[2..4]),
        ("n=0", &[]),
        ("n=0&last=a", &[]),
    ] {
        let answer = registry.get(format!("/v2/a/b/tags/list?{query}")).await.status(200);
        assert_eq!(answer.list("tags"), expected, "{query}");
        assert_eq!(answer.next_page().is_some(), query == "n=2&last=10", "{query}");
    }
}

#[tokio::test]
async fn page_sizes_that_are_none() {
    let registry = registry_with_tags().await;
    for n in ["-1", "x", "", "1.5", "0x10", "%20", "%2D5"] {
        let answer = registry.get(format!("/v2/a/b/tags/list?n={n}")).await;
        answer.refused(400, "PAGINATION_NUMBER_INVALID");
    }
}

#[tokio::test]
async fn large_pages_are_cut_to_what_is_configured() {
    let registry = TestRegistry::with(registry::Config::default(), |web| web.max_tags = 3).await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    for tag in TAGS {
        registry.push_manifest("a/b", tag, OCI_MANIFEST, &manifest).await;
    }
    for n in ["4", "1000000", "18446744073709551615"] {
        let answer = registry.get(format!("/v2/a/b/tags/list?n={n}")).await.status(200);
        assert_eq!(answer.list("tags"), TAGS[..3]);
        assert_eq!(answer.next_page().unwrap(), "/v2/a/b/tags/list?last=9&n=3");
    }
    assert_eq!(registry.get("/v2/a/b/tags/list").await.list("tags"), TAGS);
}

#[tokio::test]
async fn repositories_without_manifests_have_no_list() {
    let registry = TestRegistry::new().await;
    registry.get("/v2/never/seen/tags/list").await.refused(404, "NAME_UNKNOWN");
    registry.push_blob("a/b", b"content").await;
    registry.get("/v2/a/b/tags/list").await.refused(404, "NAME_UNKNOWN");
    // A manifest without tags: an empty list, not null.
    let manifest = registry.push_image_parts("a/b", "image").await;
    let digest = crate::support::sha256(manifest.as_bytes());
    registry.push_manifest("a/b", &digest, OCI_MANIFEST, &manifest).await;
    assert!(registry.get("/v2/a/b/tags/list").await.status(200).list("tags").is_empty());
    registry.delete(format!("/v2/a/b/manifests/{digest}")).await.expect(202);
    registry.get("/v2/a/b/tags/list").await.refused(404, "NAME_UNKNOWN");
}
