//! Blobs that clients fetch from another server.

use http::uri::{Authority, Scheme};
use oci::media_type::OCI_MANIFEST;
use web::redirect::Rewrite;

use crate::support::{TestRegistry, sha256, sha512};

async fn redirecting(rewrite: Option<Rewrite>) -> TestRegistry {
    TestRegistry::with(registry::Config::default(), |web| {
        assert!(web.redirect.push_target("http://files.example/store/"));
        if let Some(rewrite) = rewrite {
            web.redirect.push_rewrite(rewrite);
        }
    })
    .await
}

fn place(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])
}

#[tokio::test]
async fn clients_are_sent_to_the_place_of_a_blob() {
    let registry = redirecting(None).await;
    let digest = registry.push_blob("a/b", b"content").await;
    let target = format!("/v2/a/b/blobs/{digest}");
    let expected = format!("http://files.example/store{}", place(&digest));
    for answer in [registry.get(&target).await, registry.head(&target).await] {
        let answer = answer.status(307);
        assert_eq!(answer.header("location"), expected, "{answer}");
        assert!(answer.body.is_empty(), "{answer}");
    }
    // The store knows content by its sha256 only.
    let by_sha512 = format!("/v2/a/b/blobs/uploads/?digest={}", sha512(b"other"));
    let post = registry.request(http::Method::POST, by_sha512).body("other");
    post.send().await.expect(201);
    let answer = registry.get(format!("/v2/a/b/blobs/{}", sha512(b"other"))).await.status(307);
    assert!(answer.header("location").ends_with(&place(&sha256(b"other"))), "{answer}");
}

#[tokio::test]
async fn a_rewrite_changes_where_clients_are_sent() {
    let registry = redirecting(Some(Rewrite {
        scheme: Some(Scheme::HTTPS),
        host: Some(Authority::from_static("cdn.example")),
        trim_path_prefix: Some("/store/docker".to_owned()),
    }))
    .await;
    let digest = registry.push_blob("a", b"content").await;
    let answer = registry.get(format!("/v2/a/blobs/{digest}")).await.status(307);
    let place = place(&digest).replace("/docker/", "/");
    assert_eq!(answer.header("location"), format!("https://cdn.example{place}"));
}

#[tokio::test]
async fn nobody_is_sent_for_what_is_not_there() {
    let registry = redirecting(None).await;
    let digest = registry.push_blob("a", b"content").await;
    registry.get(format!("/v2/b/blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN");
    registry.get("/v2/a/blobs/x").await.refused(400, "DIGEST_INVALID");
    let missing = sha256(b"missing");
    registry.get(format!("/v2/a/blobs/{missing}")).await.refused(404, "BLOB_UNKNOWN");
    registry.head(format!("/v2/a/blobs/{missing}")).await.expect(404);
    std::fs::remove_file(registry.blob_file(&digest)).unwrap();
    registry.get(format!("/v2/a/blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN");
}

/// Manifests are small, and their bytes are checked when they are read: they are served here.
#[tokio::test]
async fn manifests_are_served_and_blobs_can_be_deleted() {
    let registry = redirecting(None).await;
    registry.push_image("a", "v1", "image").await;
    let answer = registry.get("/v2/a/manifests/v1").await.status(200);
    assert_eq!(answer.header("content-type"), OCI_MANIFEST);
    let digest = registry.push_blob("a", b"content").await;
    registry.delete(format!("/v2/a/blobs/{digest}")).await.expect(202);
}
