//! `/v2/<name>/blobs/<digest>`: blobs on their way out, and their end.

use http::Method;

use crate::support::{TestRegistry, sha256, sha512};

#[tokio::test]
async fn get_and_head_describe_the_blob() {
    let registry = TestRegistry::new().await;
    let content = b"some content";
    let digest = registry.push_blob("a/b", content).await;
    let target = format!("/v2/a/b/blobs/{digest}");
    let get = registry.get(&target).await.status(200);
    assert_eq!(&get.body[..], content);
    let head = registry.head(&target).await.status(200);
    assert!(head.body.is_empty());
    for answer in [get, head] {
        assert_eq!(answer.header("content-length"), content.len().to_string());
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("cache-control"), "max-age=31536000");
    }
}

#[tokio::test]
async fn a_large_blob_comes_out_as_it_went_in() {
    let registry = TestRegistry::new().await;
    let content = crate::support::Random::new(1).bytes(3 << 20);
    let digest = registry.push_blob("a/b", &content).await;
    let answer = registry.get(format!("/v2/a/b/blobs/{digest}")).await.status(200);
    assert!(answer.body == content);
}

#[tokio::test]
async fn the_empty_blob() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", b"").await;
    let target = format!("/v2/a/b/blobs/{digest}");
    let get = registry.get(&target).await.status(200);
    assert_eq!((get.header("content-length"), &get.body[..]), ("0", &b""[..]));
    assert_eq!(registry.head(&target).await.status(200).header("content-length"), "0");
}

#[tokio::test]
async fn a_client_that_has_the_blob_is_not_sent_it_again() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", b"content").await;
    let target = format!("/v2/a/b/blobs/{digest}");
    let other = format!("\"{}\"", sha256(b"other"));
    for (tags, status) in [
        (vec![format!("\"{digest}\"")], 304),
        (vec![format!("W/\"{digest}\"")], 304),
        (vec!["*".to_owned()], 304),
        (vec![format!("{other}, \"{digest}\"")], 304),
        (vec![other.clone(), format!("\"{digest}\"")], 304),
        (vec![other.clone()], 200),
        (vec!["\"\"".to_owned()], 200),
        (vec!["nonsense".to_owned()], 200),
        (vec![], 200),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let mut request = registry.request(method, &target);
            for tag in &tags {
                request = request.header("if-none-match", tag);
            }
            let answer = request.send().await.status(status);
            assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            assert_eq!(answer.header("docker-content-digest"), digest);
        }
    }
}

#[tokio::test]
async fn a_condition_does_not_make_a_missing_blob_exist() {
    let registry = TestRegistry::new().await;
    let digest = sha256(b"never pushed");
    let request = registry.request(Method::GET, format!("/v2/a/b/blobs/{digest}"));
    request.header("if-none-match", "*").send().await.refused(404, "BLOB_UNKNOWN");
}

/// Clients ask for gzip on everything; a blob that were compressed would not match its digest.
#[tokio::test]
async fn blobs_are_never_compressed() {
    let registry = TestRegistry::new().await;
    let content = vec![b'x'; 100_000];
    let digest = registry.push_blob("a/b", &content).await;
    let request = registry.request(Method::GET, format!("/v2/a/b/blobs/{digest}"));
    let request = request.header("accept-encoding", "gzip, zstd, br");
    let request = request.header("accept", "application/vnd.oci.image.layer.v1.tar+gzip, */*");
    let answer = request.send().await.status(200);
    assert_eq!(answer.get("content-encoding"), None);
    assert!(answer.body == content);
}

#[tokio::test]
async fn digests_may_be_percent_encoded() {
    let registry = TestRegistry::new().await;
    let content = b"content";
    let digest = sha256(content);
    let encoded = digest.replace(':', "%3A");
    let target = format!("/v2/a/b/blobs/uploads/?digest={encoded}");
    registry.request(Method::POST, target).body(&content[..]).send().await.expect(201);
    for digest in [&digest, &encoded] {
        registry.get(format!("/v2/a/b/blobs/{digest}")).await.expect(200);
        registry.get(format!("/v2/a%2fb/blobs/{digest}")).await.expect(200);
    }
}

#[tokio::test]
async fn a_blob_belongs_to_the_repositories_that_it_was_pushed_to() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", b"content").await;
    for other in ["a", "a/b/c", "b", "never/seen"] {
        let target = format!("/v2/{other}/blobs/{digest}");
        registry.get(&target).await.refused(404, "BLOB_UNKNOWN");
        registry.head(&target).await.expect(404);
    }
}

#[tokio::test]
async fn what_is_not_a_digest_is_told_so() {
    let registry = TestRegistry::new().await;
    registry.push_blob("a/b", b"content").await;
    let short = sha256(b"x")[..70].to_owned();
    let upper = sha256(b"x").to_uppercase().replace("SHA256", "sha256");
    for digest in [
        "sha256:baddigeststring",
        "sha256:",
        "sha256",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "x",
        "%00",
        "sha256:%F0%9F%9A%A2",
        "..%2f..%2fetc",
        short.as_str(),
        upper.as_str(),
    ] {
        let target = format!("/v2/a/b/blobs/{digest}");
        let answer = registry.get(&target).await;
        if digest.contains('/') || digest.contains("%2f") {
            assert!((400..500).contains(&answer.status), "{answer}");
        } else {
            answer.refused(400, "DIGEST_INVALID");
            registry.delete(&target).await.refused(400, "DIGEST_INVALID");
        }
    }
}

#[tokio::test]
async fn sha512_content_goes_by_both_digests_once_it_was_announced() {
    let registry = TestRegistry::new().await;
    let content = b"strong content";
    let digest = sha512(content);
    let target = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    let answer = registry.request(Method::POST, target).body(&content[..]).send().await.status(201);
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("location"), format!("/v2/a/b/blobs/{digest}"));

    let answer = registry.get(answer.header("location")).await.status(200);
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("etag"), format!("\"{digest}\""));
    assert_eq!(&answer.body[..], content);
    let answer = registry.get(format!("/v2/a/b/blobs/{}", sha256(content))).await.status(200);
    assert_eq!(answer.header("docker-content-digest"), sha256(content));
}

#[tokio::test]
async fn delete_takes_the_blob_from_one_repository() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", b"content").await;
    registry.push_blob("c", b"content").await;
    let target = format!("/v2/a/b/blobs/{digest}");
    let answer = registry.delete(&target).await.status(202);
    assert!(answer.body.is_empty());
    registry.head(&target).await.expect(404);
    registry.get(&target).await.refused(404, "BLOB_UNKNOWN");
    registry.delete(&target).await.refused(404, "BLOB_UNKNOWN");
    registry.get(format!("/v2/c/blobs/{digest}")).await.expect(200);
    registry.delete(format!("/v2/never/seen/blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN");

    registry.push_blob("a/b", b"content").await;
    registry.get(&target).await.expect(200);
}

#[tokio::test]
async fn deletes_can_be_switched_off() {
    let rules = registry::Config { deletes: false, ..Default::default() };
    let registry = TestRegistry::with(rules, |_| {}).await;
    let blob = registry.push_blob("a/b", b"content").await;
    let manifest = registry.push_image("a/b", "v1", "image").await;
    let targets = [
        format!("/v2/a/b/blobs/{blob}"),
        format!("/v2/a/b/blobs/{}", sha256(b"missing")),
        format!("/v2/a/b/manifests/{manifest}"),
        "/v2/a/b/manifests/v1".to_owned(),
    ];
    for target in &targets {
        registry.delete(target).await.refused(405, "UNSUPPORTED");
    }
    registry.get(&targets[0]).await.expect(200);
    registry.get(&targets[2]).await.expect(200);
    registry.get(&targets[3]).await.expect(200);
    // Cancelling an upload is no delete.
    let upload = registry.begin_upload("a/b").await;
    registry.delete(upload).await.expect(204);
}

/// RFC 9110 §15.5.6: a 405 says which methods there are.
#[tokio::test]
async fn a_delete_that_is_switched_off_names_the_other_methods() {
    let rules = registry::Config { deletes: false, ..Default::default() };
    let registry = TestRegistry::with(rules, |_| {}).await;
    let digest = registry.push_blob("a/b", b"content").await;
    let answer = registry.delete(format!("/v2/a/b/blobs/{digest}")).await.status(405);
    assert_eq!(answer.header("allow"), "GET, HEAD");
    let answer = registry.delete("/v2/a/b/manifests/v1").await.status(405);
    assert_eq!(answer.header("allow"), "GET, HEAD, PUT");
}

/// A client that is told "unknown" pushes the blob again, and that heals it.
#[tokio::test]
async fn a_blob_whose_file_is_gone_or_cut_is_unknown_until_it_is_pushed_again() {
    let registry = TestRegistry::new().await;
    let content = b"content that will be lost";
    let digest = registry.push_blob("a/b", content).await;
    let target = format!("/v2/a/b/blobs/{digest}");
    let file = registry.blob_file(&digest);

    let damages: [&dyn Fn(); 2] =
        [&|| std::fs::remove_file(&file).unwrap(), &|| std::fs::write(&file, b"cut").unwrap()];
    for damage in damages {
        damage();
        registry.head(&target).await.expect(404);
        registry.get(&target).await.refused(404, "BLOB_UNKNOWN");
        let mount = format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b");
        registry.request(Method::POST, mount).send().await.expect(202);
        registry.push_blob("a/b", content).await;
        assert_eq!(&registry.get(&target).await.status(200).body[..], content);
    }
}
