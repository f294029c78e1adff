//! A registry that is being looked after: it is read, and not changed.

use http::Method;
use oci::media_type::OCI_MANIFEST;

use crate::support::TestRegistry;

/// Every request that would change something.
async fn changes(registry: &TestRegistry, upload: &str, blob: &str) -> Vec<crate::support::Answer> {
    let mut answers = Vec::new();
    for (method, target) in [
        (Method::POST, "/v2/a/blobs/uploads/".to_owned()),
        (Method::POST, format!("/v2/a/blobs/uploads/?digest={blob}")),
        (Method::POST, format!("/v2/c/blobs/uploads/?mount={blob}&from=a")),
        (Method::PATCH, upload.to_owned()),
        (Method::PUT, format!("{upload}?digest={blob}")),
        (Method::DELETE, upload.to_owned()),
        (Method::PUT, "/v2/a/manifests/v2".to_owned()),
        (Method::DELETE, "/v2/a/manifests/v1".to_owned()),
        (Method::DELETE, format!("/v2/a/blobs/{blob}")),
    ] {
        let request = registry.request(method, target).header("content-type", OCI_MANIFEST);
        answers.push(request.body("content").send().await);
    }
    answers
}

#[tokio::test]
async fn a_read_only_registry_is_pulled_from_and_not_changed() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image("a", "v1", "image").await;
    let blob = registry.push_blob("a", b"content").await;
    let upload = registry.begin_upload("a").await;
    registry.registry.set_read_only(true);
    for answer in changes(&registry, &upload, &blob).await {
        let answer = answer.refused(405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{answer}");
        assert!(answer.message().contains("read-only"), "{answer}");
    }
    registry.get("/v2/").await.expect(200);
    registry.get("/v2/_catalog").await.expect(200);
    registry.get("/v2/a/tags/list").await.expect(200);
    registry.get(format!("/v2/a/referrers/{manifest}")).await.expect(200);
    registry.head(format!("/v2/a/manifests/{manifest}")).await.expect(200);
    registry.get(format!("/v2/a/blobs/{blob}")).await.expect(200);
    registry.get(&upload).await.expect(204);
    let answer = registry.request(Method::OPTIONS, "/v2/a/manifests/v1").send().await.status(200);
    assert_eq!(answer.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn what_was_begun_goes_on_when_writing_is_allowed_again() {
    let rules = registry::Config { read_only: true, ..registry::Config::default() };
    let registry = TestRegistry::with(rules, |_| {}).await;
    let request = || registry.request(Method::POST, "/v2/a/blobs/uploads/");
    request().send().await.refused(405, "UNSUPPORTED");
    registry.registry.set_read_only(false);
    let upload = registry.begin_upload("a").await;
    registry.registry.set_read_only(true);
    let patch = || registry.request(Method::PATCH, &upload).body("content");
    patch().send().await.refused(405, "UNSUPPORTED");
    registry.registry.set_read_only(false);
    patch().send().await.expect(202);
    let digest = crate::support::sha256(b"content");
    let put = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
    put.send().await.expect(201);
}
