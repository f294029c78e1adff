//! `/v2/<name>/manifests/<reference>`: what is taken, what is refused, and what comes back.

use http::Method;
use oci::media_type::{
    DOCKER_CONFIG, DOCKER_FOREIGN_LAYER, DOCKER_LAYER, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST,
    OCI_ARTIFACT, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, OCI_NONDISTRIBUTABLE_LAYER,
};
use registry::Children;
use serde_json::json;

use crate::support::images::{descriptor, image, image_value, index};
use crate::support::{TestRegistry, live_body, sha256, sha512};

const MAX: usize = 4 << 20;

#[tokio::test]
async fn put_and_get_by_tag_and_digest() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let digest = sha256(manifest.as_bytes());
    for reference in ["v1", &digest, &digest.replace(':', "%3A")] {
        let put = registry.put_manifest("a/b", reference, OCI_MANIFEST, &manifest).await;
        let put = put.status(201);
        assert_eq!(put.header("location"), format!("/v2/a/b/manifests/{digest}"));
        assert_eq!(put.header("docker-content-digest"), digest);
        assert_eq!(put.get("oci-subject"), None);
        assert!(put.body.is_empty());
        for reference in [reference, "v1", &digest] {
            let target = format!("/v2/a/b/manifests/{reference}");
            let get = registry.get(&target).await.status(200);
            assert_eq!(get.body, manifest);
            let head = registry.head(&target).await.status(200);
            for answer in [get, head] {
                assert_eq!(answer.header("content-type"), OCI_MANIFEST);
                assert_eq!(answer.header("content-length"), manifest.len().to_string());
                assert_eq!(answer.header("docker-content-digest"), digest);
                assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            }
        }
    }
}

#[tokio::test]
async fn manifests_of_every_kind_are_kept_byte_for_byte() {
    let registry = TestRegistry::new().await;
    let (config, layer) = (&b"{}"[..], &b"layer"[..]);
    registry.push_blob("a/b", config).await;
    registry.push_blob("a/b", layer).await;
    let child = image(config, &[layer]);
    registry.push_manifest("a/b", "child", OCI_MANIFEST, &child).await;
    let child = descriptor(OCI_MANIFEST, child.as_bytes());

    let docker = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_CONFIG, config), "layers": [descriptor(DOCKER_LAYER, layer)],
    });
    let docker_list = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST_LIST, "manifests": [child],
    });
    let unnamed = json!({
        "schemaVersion": 2, "config": descriptor(OCI_CONFIG, config), "layers": [],
    });
    let artifact = json!({ "mediaType": OCI_ARTIFACT, "artifactType": "a/b", "blobs": [] });
    let with_data = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x.y",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(config), "size": 2,
            "data": "e30=",
        },
        "layers": [descriptor("text/whatever; charset=utf-8", layer)],
    });
    let no_children = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    let spaced = format!(
        " {{\n\t\"schemaVersion\" : 2,\r\n \"mediaType\":{OCI_MANIFEST:?}, \"unknown\": [1e3, -0, \
         null, \"\\u00e4\"], \"config\":{}, \"layers\":[], \"org.example\":{{\"deep\":{{}}}} }}\n\n",
        descriptor(OCI_CONFIG, config)
    );
    let invented = "application/vnd.example.thing.v7+json";
    let thing = json!({
        "schemaVersion": 2, "mediaType": invented, "config": descriptor("x/y", config),
    });
    for (media_type, manifest) in [
        (DOCKER_MANIFEST, docker.to_string()),
        (DOCKER_MANIFEST_LIST, docker_list.to_string()),
        (OCI_MANIFEST, unnamed.to_string()),
        (OCI_ARTIFACT, artifact.to_string()),
        (OCI_MANIFEST, with_data.to_string()),
        (OCI_INDEX, no_children.to_string()),
        (OCI_INDEX, index(&[])),
        (OCI_MANIFEST, spaced),
        (invented, thing.to_string()),
    ] {
        let digest = registry.push_manifest("a/b", "any", media_type, &manifest).await;
        for reference in ["any", &digest] {
            let answer = registry.get(format!("/v2/a/b/manifests/{reference}")).await.status(200);
            assert_eq!(answer.body, manifest);
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.header("docker-content-digest"), digest);
        }
    }
}

#[tokio::test]
async fn the_content_type_may_be_missing_or_have_parameters() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1").body(manifest.clone());
    put.send().await.expect(201);
    assert_eq!(registry.get("/v2/a/b/manifests/v1").await.header("content-type"), OCI_MANIFEST);
    let with_parameters = format!("{}; charset=utf-8", OCI_MANIFEST.to_uppercase());
    registry.put_manifest("a/b", "v2", &with_parameters, &manifest).await.expect(201);
    assert_eq!(registry.get("/v2/a/b/manifests/v2").await.header("content-type"), OCI_MANIFEST);
}

#[tokio::test]
async fn sha512_manifests_go_by_the_digest_that_the_client_used() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let digest = sha512(manifest.as_bytes());
    let target = format!("/v2/a/b/manifests/{digest}");
    let put = registry.put_manifest("a/b", &digest, OCI_MANIFEST, &manifest).await.status(201);
    assert_eq!(put.header("docker-content-digest"), digest);
    assert_eq!(put.header("location"), target);
    for answer in [registry.get(&target).await, registry.head(&target).await] {
        assert_eq!(answer.status(200).header("docker-content-digest"), digest);
    }
    let target = format!("{target}?tag=strong");
    let put = registry.request(Method::PUT, target).header("content-type", OCI_MANIFEST);
    let put = put.body(manifest.clone()).send().await.status(201);
    assert_eq!(put.header("oci-tag"), "strong");
    let answer = registry.get("/v2/a/b/manifests/strong").await.status(200);
    assert_eq!(answer.header("docker-content-digest"), digest);
}

#[tokio::test]
async fn a_manifest_that_does_not_have_its_digest() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    for wrong in [sha256(b"other"), sha512(b"other")] {
        let put = registry.put_manifest("a/b", &wrong, OCI_MANIFEST, &manifest).await;
        put.refused(400, "DIGEST_INVALID");
        registry.get(format!("/v2/a/b/manifests/{wrong}")).await.expect(404);
    }
}

#[tokio::test]
async fn references_that_are_none() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    registry.push_manifest("a/b", &"x".repeat(128), OCI_MANIFEST, &manifest).await;
    let too_long = "x".repeat(129);
    for (reference, code) in [
        (too_long.as_str(), "TAG_INVALID"),
        (".a", "TAG_INVALID"),
        ("-a", "TAG_INVALID"),
        ("a%20b", "TAG_INVALID"),
        ("", "TAG_INVALID"),
        ("%C3%A9", "TAG_INVALID"),
        ("sha256:baddigeststring", "DIGEST_INVALID"),
        ("sha256:", "DIGEST_INVALID"),
        (":", "DIGEST_INVALID"),
    ] {
        let target = format!("/v2/a/b/manifests/{reference}");
        registry.get(&target).await.refused(400, code);
        registry.head(&target).await.expect(400);
        registry.delete(&target).await.refused(400, code);
        let put = registry.put_manifest("a/b", reference, OCI_MANIFEST, &manifest).await;
        put.refused(400, code);
    }
}

#[tokio::test]
async fn what_is_not_a_manifest() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let base = image_value(b"{}", &[]);
    let with = |field: &str, value: serde_json::Value| {
        let mut changed = base.clone();
        changed[field] = value;
        changed.to_string()
    };
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let mut twice = manifest.clone();
    twice.insert_str(1, "\"layers\":[],");
    for (media_type, content) in [
        (OCI_MANIFEST, String::new()),
        (OCI_MANIFEST, "null".to_owned()),
        (OCI_MANIFEST, "[]".to_owned()),
        (OCI_MANIFEST, "{".to_owned()),
        (OCI_MANIFEST, "\0".to_owned()),
        (OCI_MANIFEST, deep),
        (OCI_MANIFEST, twice),
        (OCI_MANIFEST, with("schemaVersion", json!(1))),
        (OCI_MANIFEST, with("schemaVersion", json!("2"))),
        (OCI_MANIFEST, with("config", json!("sha256:x"))),
        (OCI_MANIFEST, with("config", json!({ "mediaType": "a/b", "size": 1 }))),
        (OCI_MANIFEST, with("config", json!({ "digest": "sha256:x", "size": 1 }))),
        (OCI_MANIFEST, with("layers", json!([{ "digest": sha256(b""), "size": -1 }]))),
        (OCI_MANIFEST, with("manifests", json!([]))),
        (OCI_MANIFEST, with("subject", json!({ "digest": "md5:00", "size": 1 }))),
        (OCI_INDEX, manifest.clone()),
        (DOCKER_MANIFEST, manifest.clone()),
        (OCI_MANIFEST, index(&[])),
        ("text/plain", with("mediaType", json!("text/plain"))),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", manifest.clone()),
    ] {
        let put = registry.put_manifest("a/b", "v1", media_type, &content).await;
        let answer = put.refused(400, "MANIFEST_INVALID");
        assert!(answer.message().len() > 10, "{answer}");
    }
    let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1").header("content-type", [0xff]);
    put.body(manifest).send().await.refused(400, "MANIFEST_INVALID");
    registry.get("/v2/a/b/manifests/v1").await.expect(404);
}

#[tokio::test]
async fn four_mebibytes_are_the_limit() {
    let registry = TestRegistry::new().await;
    registry.push_blob("a/b", b"{}").await;
    let of_size = |size: usize| {
        let mut manifest = image(b"{}", &[]);
        manifest.push_str(&" ".repeat(size - manifest.len()));
        manifest
    };
    let largest = of_size(MAX);
    let digest = registry.push_manifest("a/b", "largest", OCI_MANIFEST, &largest).await;
    let answer = registry.get(format!("/v2/a/b/manifests/{digest}")).await.status(200);
    assert!(answer.body == largest);

    let too_large = of_size(MAX + 1);
    let put = registry.put_manifest("a/b", "v1", OCI_MANIFEST, &too_large).await;
    let answer = put.refused(413, "SIZE_INVALID");
    assert_eq!(answer.json()["errors"][0]["detail"]["limit"], MAX);
    // Announced only: refused before it is read.
    let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1");
    let put = put.header("content-length", "99999999999").live_body(live_body().1);
    put.send().await.refused(413, "SIZE_INVALID");
    // Not announced.
    let (sender, body) = live_body();
    let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1").live_body(body).spawn();
    for chunk in too_large.as_bytes().chunks(1 << 20) {
        sender.send(chunk.to_vec()).await;
    }
    put.await.unwrap().refused(413, "SIZE_INVALID");
    registry.get("/v2/a/b/manifests/v1").await.expect(404);
}

#[tokio::test]
async fn a_manifest_that_breaks_off_is_not_taken() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let (sender, body) = live_body();
    let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1").live_body(body).spawn();
    sender.send(manifest).await;
    sender.break_off().await;
    put.await.unwrap().refused(400, "MANIFEST_INVALID");
    registry.get("/v2/a/b/manifests/v1").await.expect(404);
}

#[tokio::test]
async fn all_that_is_missing_is_named_in_one_answer() {
    let registry = TestRegistry::new().await;
    registry.push_blob("a/b", b"present").await;
    registry.push_blob("elsewhere", b"config").await;
    let manifest = image(b"config", &[b"present", b"first", b"second", b"first"]);
    let answer = registry.put_manifest("a/b", "v1", OCI_MANIFEST, &manifest).await;
    let answer = answer.refused(400, "MANIFEST_BLOB_UNKNOWN");
    let json = answer.json();
    let mut missing = Vec::new();
    for error in json["errors"].as_array().unwrap() {
        assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN");
        missing.push(error["detail"]["digest"].as_str().unwrap().to_owned());
    }
    assert_eq!(missing, [sha256(b"config"), sha256(b"first"), sha256(b"second")]);

    let children = ["{\"one\":1}", "{\"two\":2}"];
    let answer = registry.put_manifest("a/b", "v1", OCI_INDEX, &index(&children)).await;
    let answer = answer.refused(400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 2);
    registry.get("/v2/a/b/manifests/v1").await.expect(404);
}

/// The child of an index is a manifest, not a blob.
#[tokio::test]
async fn a_blob_is_no_child_and_a_manifest_no_layer() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    registry.push_blob("a/b", manifest.as_bytes()).await;
    let put = registry.put_manifest("a/b", "v1", OCI_INDEX, &index(&[&manifest])).await;
    put.refused(400, "MANIFEST_BLOB_UNKNOWN");

    let other = registry.push_image_parts("a/b", "other").await;
    registry.push_manifest("a/b", "other", OCI_MANIFEST, &other).await;
    let odd = image(other.as_bytes(), &[]);
    let put = registry.put_manifest("a/b", "v1", OCI_MANIFEST, &odd).await;
    put.refused(400, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn layers_that_lie_elsewhere_need_not_be_pushed_but_may() {
    let registry = TestRegistry::new().await;
    registry.push_blob("a/b", b"{}").await;
    let mut by_url = descriptor(OCI_LAYER, b"by url");
    by_url["urls"] = json!(["https://example.org/layer"]);
    for (media_type, layers) in [
        (DOCKER_MANIFEST, json!([descriptor(DOCKER_FOREIGN_LAYER, b"windows")])),
        (OCI_MANIFEST, json!([descriptor(OCI_NONDISTRIBUTABLE_LAYER, b"licensed")])),
        (OCI_MANIFEST, json!([by_url])),
    ] {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": descriptor(OCI_CONFIG, b"{}"), "layers": layers,
        });
        registry.push_manifest("a/b", "v1", media_type, &manifest.to_string()).await;
    }
    let pushed = registry.push_blob("a/b", b"windows").await;
    registry.get(format!("/v2/a/b/blobs/{pushed}")).await.expect(200);
}

#[tokio::test]
async fn sparse_content_by_configuration() {
    let manifest = image(b"{}", &[b"layer"]);
    let index = index(&[&manifest]);
    for (blobs, children) in [(true, true), (true, false), (false, true), (false, false)] {
        let rules = registry::Config {
            require_blobs: blobs,
            require_children: if children { Children::All } else { Children::None },
            ..Default::default()
        };
        let registry = TestRegistry::with(rules, |_| {}).await;
        let put = registry.put_manifest("a/b", "index", OCI_INDEX, &index).await;
        assert_eq!(put.status, if children { 400 } else { 201 });
        let put = registry.put_manifest("a/b", "image", OCI_MANIFEST, &manifest).await;
        assert_eq!(put.status, if blobs { 400 } else { 201 });
    }
}

#[tokio::test]
async fn one_push_sets_many_tags() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let digest = sha256(manifest.as_bytes());
    let put = |reference: &str, query: &str| {
        let target = format!("/v2/a/b/manifests/{reference}?{query}");
        registry.request(Method::PUT, target).body(manifest.clone()).send()
    };
    let answer = put(&digest, "tag=v1.2&tag=v1&tag=latest&tag=v1").await.status(201);
    assert_eq!(answer.all("oci-tag"), ["v1.2", "v1", "latest"]);
    for tag in ["v1.2", "v1", "latest"] {
        let answer = registry.get(format!("/v2/a/b/manifests/{tag}")).await.status(200);
        assert_eq!(answer.header("docker-content-digest"), digest);
    }
    let tags = registry.get("/v2/a/b/tags/list").await.list("tags");
    assert_eq!(tags, ["latest", "v1", "v1.2"]);

    put(&digest, "tag=").await.refused(400, "TAG_INVALID");
    put(&digest, "tag=ok&tag=not+ok").await.refused(400, "TAG_INVALID");
    registry.get("/v2/a/b/manifests/ok").await.refused(404, "MANIFEST_UNKNOWN");
    let many = (0..51).map(|n| format!("tag=t{n}")).collect::<Vec<_>>();
    assert_eq!(put(&digest, &many[..50].join("&")).await.status(201).all("oci-tag").len(), 50);
    put(&digest, &many.join("&")).await.refused(413, "TAG_INVALID");
}

#[tokio::test]
async fn tags_move() {
    let registry = TestRegistry::new().await;
    let first = registry.push_image("a/b", "latest", "first").await;
    let second = registry.push_image("a/b", "latest", "second").await;
    let answer = registry.get("/v2/a/b/manifests/latest").await.status(200);
    assert_eq!(answer.header("docker-content-digest"), second);
    registry.get(format!("/v2/a/b/manifests/{first}")).await.expect(200);
    let tags = registry.get("/v2/a/b/tags/list").await.list("tags");
    assert_eq!(tags, ["latest"]);
}

#[tokio::test]
async fn delete_of_a_tag_leaves_the_manifest() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_image("a/b", "v1", "image").await;
    registry.push_image("a/b", "v2", "image").await;
    registry.delete("/v2/a/b/manifests/v1").await.expect(202);
    registry.get("/v2/a/b/manifests/v1").await.refused(404, "MANIFEST_UNKNOWN");
    registry.delete("/v2/a/b/manifests/v1").await.refused(404, "MANIFEST_UNKNOWN");
    registry.get("/v2/a/b/manifests/v2").await.expect(200);
    registry.get(format!("/v2/a/b/manifests/{digest}")).await.expect(200);
}

#[tokio::test]
async fn delete_of_a_manifest_takes_its_tags_along() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_image("a/b", "v1", "image").await;
    registry.push_image("a/b", "v2", "image").await;
    registry.push_image("a/b", "other", "other").await;
    registry.push_image("elsewhere", "v1", "image").await;
    let target = format!("/v2/a/b/manifests/{digest}");
    registry.delete(&target).await.expect(202);
    for target in [target.as_str(), "/v2/a/b/manifests/v1", "/v2/a/b/manifests/v2"] {
        registry.get(target).await.refused(404, "MANIFEST_UNKNOWN");
        registry.head(target).await.expect(404);
        registry.delete(target).await.refused(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(registry.get("/v2/a/b/tags/list").await.list("tags"), ["other"]);
    registry.get("/v2/elsewhere/manifests/v1").await.expect(200);
    registry.get("/v2/a/b/manifests/other").await.expect(200);
}

/// Also where the repository is not: clients tell their users so.
#[tokio::test]
async fn a_manifest_that_is_not_there_is_unknown() {
    let registry = TestRegistry::new().await;
    registry.push_image("a/b", "v1", "image").await;
    let missing = sha256(b"missing");
    for reference in ["v2", &missing] {
        for repository in ["a/b", "c"] {
            let target = format!("/v2/{repository}/manifests/{reference}");
            registry.get(&target).await.refused(404, "MANIFEST_UNKNOWN");
            registry.head(&target).await.expect(404);
            registry.delete(&target).await.refused(404, "MANIFEST_UNKNOWN");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_the_manifest_is_not_sent_it_again() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_image("a/b", "v1", "image").await;
    for (tag, status) in [
        (format!("\"{digest}\""), 304),
        ("*".to_owned(), 304),
        (format!("\"{}\"", sha256(b"")), 200),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let request = registry.request(method, "/v2/a/b/manifests/v1");
            let answer = request.header("if-none-match", &tag).send().await.status(status);
            assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            assert_eq!(answer.header("docker-content-digest"), digest);
        }
    }
    // registry:2 says 304 before it looks whether the manifest exists.
    let request =
        registry.request(Method::GET, "/v2/a/b/manifests/v2").header("if-none-match", "*");
    request.send().await.refused(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn a_tag_moves_only_from_where_the_client_believes_it_to_be() {
    let registry = TestRegistry::new().await;
    let first = registry.push_image_parts("a/b", "first").await;
    let second = registry.push_image_parts("a/b", "second").await;
    let first_tag = format!("\"{}\"", sha256(first.as_bytes()));
    let second_tag = format!("\"{}\"", sha256(second.as_bytes()));
    let put = async |header: &str, value: &str, manifest: &str| {
        let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1").header(header, value);
        put.body(manifest.to_owned()).send().await
    };
    // There is no tag yet.
    put("if-match", "*", &first).await.refused(412, "PRECONDITION_FAILED");
    let answer = put("if-match", &first_tag, &first).await.refused(412, "PRECONDITION_FAILED");
    assert!(answer.json()["errors"][0]["detail"]["current"].is_null());
    registry.get("/v2/a/b/manifests/v1").await.expect(404);
    put("if-none-match", "*", &first).await.expect(201);
    // Now there is.
    let answer = put("if-none-match", "*", &second).await.refused(412, "PRECONDITION_FAILED");
    assert_eq!(answer.json()["errors"][0]["detail"]["current"], sha256(first.as_bytes()));
    put("if-none-match", &first_tag, &second).await.refused(412, "PRECONDITION_FAILED");
    put("if-match", &second_tag, &second).await.refused(412, "PRECONDITION_FAILED");
    let answer = registry.get("/v2/a/b/manifests/v1").await.status(200);
    assert_eq!(answer.header("etag"), first_tag);
    put("if-match", &format!("{second_tag}, {first_tag}"), &second).await.expect(201);
    put("if-match", "*", &first).await.expect(201);
    put("if-none-match", &second_tag, &second).await.expect(201);
    assert_eq!(registry.get("/v2/a/b/manifests/v1").await.header("etag"), second_tag);
    for nonsense in ["", "x", "\"x\"", "\"*\""] {
        put("if-match", nonsense, &first).await.refused(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn the_entity_tag_of_a_pull_is_the_condition_of_a_push() {
    let registry = TestRegistry::new().await;
    registry.push_image("a/b", "v1", "first").await;
    let second = registry.push_image_parts("a/b", "second").await;
    let etag = registry.get("/v2/a/b/manifests/v1").await.header("etag").to_owned();
    for status in [201, 412] {
        let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1").header("if-match", &etag);
        put.body(second.clone()).send().await.expect(status);
    }
}

/// A push by digest names its tags beside it, and the condition is about them.
#[tokio::test]
async fn a_condition_is_about_every_tag_of_a_push() {
    let registry = TestRegistry::new().await;
    let first = registry.push_image("a/b", "prod", "first").await;
    let second = registry.push_image_parts("a/b", "second").await;
    let digest = sha256(second.as_bytes());
    let put = async |target: &str, header: &str, value: &str| {
        let put = registry.request(Method::PUT, target).header(header, value);
        put.body(second.clone()).send().await
    };
    for reference in [digest.as_str(), "new"] {
        let target = format!("/v2/a/b/manifests/{reference}?tag=prod");
        put(&target, "if-none-match", "*").await.refused(412, "PRECONDITION_FAILED");
    }
    registry.get("/v2/a/b/manifests/new").await.expect(404);
    let target = format!("/v2/a/b/manifests/{digest}?tag=prod");
    put(&target, "if-match", &format!("\"{digest}\"")).await.refused(412, "PRECONDITION_FAILED");
    put(&target, "if-match", &format!("\"{first}\"")).await.expect(201);
    let target = format!("/v2/a/b/manifests/{digest}?tag=other");
    put(&target, "if-none-match", "*").await.expect(201);
}

/// Else a push to one tag would change what all others are.
#[tokio::test]
async fn a_manifest_stays_of_the_type_that_it_was_pushed_as() {
    let registry = TestRegistry::new().await;
    let mut manifest = image_value(b"{}", &[]);
    manifest.as_object_mut().unwrap().remove("mediaType");
    registry.push_blob("a/b", b"{}").await;
    let manifest = manifest.to_string();
    registry.push_manifest("a/b", "v1", OCI_MANIFEST, &manifest).await;
    registry.push_manifest("a/b", "other", "application/json", &manifest).await;
    for tag in ["v1", "other"] {
        let answer = registry.get(format!("/v2/a/b/manifests/{tag}")).await.status(200);
        assert_eq!(answer.header("content-type"), OCI_MANIFEST);
    }
}

#[tokio::test]
async fn the_name_of_an_unknown_type_keeps_its_capitals() {
    let registry = TestRegistry::new().await;
    let kind = "application/vnd.Example.Thing.v1+json";
    let mut manifest = image_value(b"{}", &[]);
    manifest["mediaType"] = kind.into();
    registry.push_blob("a/b", b"{}").await;
    registry.push_manifest("a/b", "v1", kind, &manifest.to_string()).await;
    let answer = registry.get("/v2/a/b/manifests/v1").await.status(200);
    assert_eq!(answer.header("content-type"), kind);
}

/// RFC 9110 §5.2: several lines of a list are one list.
#[tokio::test]
async fn conditions_may_come_in_several_lines() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_image("a/b", "v1", "first").await;
    let second = registry.push_image_parts("a/b", "second").await;
    let other = format!("\"{}\"", sha256(b"other"));
    let own = format!("\"{digest}\"");
    let put = |header: &str| {
        let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1");
        put.header(header, &other).header(header, &own).body(second.clone()).send()
    };
    put("if-none-match").await.refused(412, "PRECONDITION_FAILED");
    put("if-match").await.expect(201);
}

/// RFC 9110 §13.2.2: both conditions must hold.
#[tokio::test]
async fn both_conditions_count() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_image("a/b", "v1", "first").await;
    let second = registry.push_image_parts("a/b", "second").await;
    let own = format!("\"{digest}\"");
    let put = registry.request(Method::PUT, "/v2/a/b/manifests/v1");
    let put = put.header("if-match", "*").header("if-none-match", own).body(second);
    put.send().await.refused(412, "PRECONDITION_FAILED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_move_a_tag_at_once_one_wins() {
    let registry = TestRegistry::new().await;
    let start = registry.push_image("a/b", "v1", "start").await;
    let mut manifests = Vec::new();
    for n in 0..16 {
        manifests.push(registry.push_image_parts("a/b", &format!("image {n}")).await);
    }
    let own = format!("\"{start}\"");
    for (reference, header, value) in
        [("v1", "if-match", own.as_str()), ("new", "if-none-match", "*")]
    {
        let pushes = manifests.iter().map(|manifest| {
            let put = registry.request(Method::PUT, format!("/v2/a/b/manifests/{reference}"));
            put.header(header, value).body(manifest.clone()).spawn()
        });
        let mut winners = Vec::new();
        for push in pushes.collect::<Vec<_>>() {
            let answer = push.await.unwrap();
            match answer.status {
                201 => winners.push(answer.header("docker-content-digest").to_owned()),
                _ => drop(answer.refused(412, "PRECONDITION_FAILED")),
            }
        }
        assert_eq!(winners.len(), 1, "{header}");
        let answer = registry.get(format!("/v2/a/b/manifests/{reference}")).await.status(200);
        assert_eq!(answer.header("docker-content-digest"), winners[0]);
    }
}

/// A delete is guarded by the same conditions as a push.
#[tokio::test]
async fn a_delete_may_be_conditional() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_image("a/b", "v1", "first").await;
    let delete = |value: String| {
        registry.request(Method::DELETE, "/v2/a/b/manifests/v1").header("if-match", &value).send()
    };
    let other = sha256(b"other");
    delete(format!("\"{other}\"")).await.refused(412, "PRECONDITION_FAILED");
    registry.get("/v2/a/b/manifests/v1").await.expect(200);
    delete(format!("\"{digest}\"")).await.expect(202);
    registry.get("/v2/a/b/manifests/v1").await.expect(404);
}
