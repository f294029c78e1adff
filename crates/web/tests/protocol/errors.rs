//! Every mistake that a client can make, with the status and the code that it is told. Clients
//! act upon these: a change here is a change of the protocol.

use http::Method;
use oci::media_type::OCI_MANIFEST;

use crate::support::images::image;
use crate::support::{TestRegistry, sha256};

#[tokio::test]
async fn status_and_code_of_every_mistake() {
    let registry = TestRegistry::new().await;
    registry.push_image("a/b", "v1", "image").await;
    let blob = registry.push_blob("a/b", b"content").await;
    let missing = sha256(b"missing");
    let upload = registry.begin_upload("a/b").await;
    let incomplete = image(b"missing config", &[]);
    let uploads = "/v2/a/b/blobs/uploads/";
    let table = [
        // Paths and methods.
        ("GET", "/v2/x".to_owned(), vec![], "", 404, "UNSUPPORTED"),
        ("GET", "/x".to_owned(), vec![], "", 404, "UNSUPPORTED"),
        ("POST", "/v2/".to_owned(), vec![], "", 405, "UNSUPPORTED"),
        // Names.
        ("GET", "/v2/A/tags/list".to_owned(), vec![], "", 400, "NAME_INVALID"),
        ("GET", "/v2/c/tags/list".to_owned(), vec![], "", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/c/manifests/v1".to_owned(), vec![], "", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", "/v2/c/manifests/v1".to_owned(), vec![], "", 404, "MANIFEST_UNKNOWN"),
        // Lists.
        ("GET", "/v2/_catalog?n=x".to_owned(), vec![], "", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET", "/v2/_catalog?n=1001".to_owned(), vec![], "", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET", "/v2/a/b/tags/list?n=-1".to_owned(), vec![], "", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET", "/v2/a/b/referrers/x".to_owned(), vec![], "", 400, "DIGEST_INVALID"),
        // Blobs.
        ("GET", "/v2/a/b/blobs/x".to_owned(), vec![], "", 400, "DIGEST_INVALID"),
        ("GET", format!("/v2/a/b/blobs/{missing}"), vec![], "", 404, "BLOB_UNKNOWN"),
        ("DELETE", format!("/v2/a/b/blobs/{missing}"), vec![], "", 404, "BLOB_UNKNOWN"),
        (
            "GET",
            format!("/v2/a/b/blobs/{blob}"),
            vec![("range", "bytes=99-".to_owned())],
            "",
            416,
            "RANGE_INVALID",
        ),
        // Uploads.
        ("GET", format!("{uploads}x"), vec![], "", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", format!("{uploads}x"), vec![], "x", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", format!("{uploads}x?digest={blob}"), vec![], "x", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("DELETE", format!("{uploads}x"), vec![], "", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("POST", format!("{uploads}?digest=x"), vec![], "x", 400, "DIGEST_INVALID"),
        ("POST", format!("{uploads}?digest={missing}"), vec![], "x", 400, "DIGEST_INVALID"),
        ("POST", format!("{uploads}?digest-algorithm=x"), vec![], "", 400, "DIGEST_INVALID"),
        ("POST", format!("{uploads}?mount=x"), vec![], "", 400, "DIGEST_INVALID"),
        ("POST", format!("{uploads}?mount={blob}&from=A"), vec![], "", 400, "NAME_INVALID"),
        ("PUT", upload.clone(), vec![], "x", 400, "DIGEST_INVALID"),
        (
            "PATCH",
            upload.clone(),
            vec![("content-range", "5-5".to_owned())],
            "x",
            416,
            "RANGE_INVALID",
        ),
        (
            "PATCH",
            upload.clone(),
            vec![("content-range", "x".to_owned())],
            "x",
            416,
            "RANGE_INVALID",
        ),
        (
            "PATCH",
            upload.clone(),
            vec![("content-range", "0-5".to_owned())],
            "x",
            400,
            "SIZE_INVALID",
        ),
        // The session ends with this one.
        ("PUT", format!("{upload}?digest={missing}"), vec![], "x", 400, "DIGEST_INVALID"),
        ("GET", upload.clone(), vec![], "", 404, "BLOB_UPLOAD_UNKNOWN"),
        // Manifests.
        ("GET", "/v2/a/b/manifests/v2".to_owned(), vec![], "", 404, "MANIFEST_UNKNOWN"),
        ("GET", format!("/v2/a/b/manifests/{missing}"), vec![], "", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", "/v2/a/b/manifests/v2".to_owned(), vec![], "", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/a/b/manifests/.v2".to_owned(), vec![], "", 400, "TAG_INVALID"),
        ("GET", "/v2/a/b/manifests/sha256:x".to_owned(), vec![], "", 400, "DIGEST_INVALID"),
        (
            "GET",
            "/v2/a/b/manifests/v1".to_owned(),
            vec![("accept", "text/plain".to_owned())],
            "",
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("PUT", "/v2/a/b/manifests/v2".to_owned(), vec![], "x", 400, "MANIFEST_INVALID"),
        (
            "PUT",
            "/v2/a/b/manifests/v2".to_owned(),
            vec![("content-type", OCI_MANIFEST.to_owned())],
            incomplete.as_str(),
            400,
            "MANIFEST_BLOB_UNKNOWN",
        ),
        (
            "PUT",
            format!("/v2/a/b/manifests/{missing}"),
            vec![("content-type", OCI_MANIFEST.to_owned())],
            incomplete.as_str(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "PUT",
            "/v2/a/b/manifests/v1".to_owned(),
            vec![("if-none-match", "*".to_owned())],
            incomplete.as_str(),
            412,
            "PRECONDITION_FAILED",
        ),
        (
            "PUT",
            "/v2/a/b/manifests/v2".to_owned(),
            vec![("if-match", "x".to_owned())],
            incomplete.as_str(),
            400,
            "DIGEST_INVALID",
        ),
        ("PUT", "/v2/a/b/manifests/v2?tag=.".to_owned(), vec![], "x", 400, "TAG_INVALID"),
        (
            "PUT",
            "/v2/a/b/manifests/v2".to_owned(),
            vec![("content-length", (5 << 20).to_string())],
            "x",
            413,
            "SIZE_INVALID",
        ),
    ];
    let mut wrong = Vec::new();
    for (method, target, headers, body, status, code) in table {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = registry.request(method.clone(), &target).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        if (answer.status, answer.code().as_str()) != (status, code) {
            let found = format!("{} {}", answer.status, answer.code());
            wrong.push(format!("{method} {target}: expected {status} {code}, found {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A message tells the client what was wrong, and never where the registry keeps its data.
#[tokio::test]
async fn messages_name_no_files() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", b"content").await;
    std::fs::remove_file(registry.blob_file(&digest)).unwrap();
    let manifest = registry.push_image("a/b", "v1", "image").await;
    for target in [
        format!("/v2/a/b/blobs/{digest}"),
        "/v2/a/b/blobs/..%2f..%2f..%2fetc%2fpasswd".to_owned(),
        format!("/v2/a/b/manifests/{manifest}x"),
        "/v2/a/b/blobs/uploads/..%2fx".to_owned(),
    ] {
        let answer = registry.get(target).await;
        assert!((400..500).contains(&answer.status), "{answer}");
        for part in ["docker/registry", "sqlite", "SELECT", "os error"] {
            assert!(!answer.message().contains(part), "{answer}");
        }
    }
}
